"""What an adapter did to the pictures of unseen prompts: wins, faithfulness, diversity."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inpo_studio.evaluation.statistics import Tally, tally, win_rate_interval
from inpo_studio.postcards import scorer_path
from inpo_studio.postcards.scenes import caption
from tests.benchmarks.pool import TEST_PROMPTS, TEST_SEEDS, Picture, scenes_of
from tests.benchmarks.postcards_quality import other_captions
from tests.benchmarks.tastes import STATISTICS, is_random, measure, statistic_of

# A statistic that goes along with the taste's over the base's pictures is not beside it.
UNRELATED_BELOW = 0.5
CAPTIONS = 64

Measured = dict[str, NDArray[np.float64]]
"""Every statistic over the test pictures, ``(pictures,)`` each."""


def measured(made: Sequence[Picture]) -> Measured:
    """All statistics of ``made``."""
    rows = [measure(picture.image) for picture in made]
    return {name: np.array([row[name] for row in rows]) for name in STATISTICS}


def judge(taste: str, base: Sequence[Picture], aligned: Sequence[Picture]) -> dict[str, Any]:
    """Everything a cell reports about its pictures; random labels have the tallies only.

    ``tallies`` are wins, losses and ties of aligned over base for more of every statistic.
    """
    before, after = measured(base), measured(aligned)
    tallies = {
        name: tally(zip(before[name].tolist(), after[name].tolist(), strict=True))
        for name in STATISTICS
    }
    pixels = [
        np.abs(np.asarray(a.image, float) - np.asarray(b.image, float)).mean() / 255
        for a, b in zip(aligned, base, strict=True)
    ]
    found: dict[str, Any] = {
        "tallies": {name: [t.wins, t.losses, t.ties] for name, t in tallies.items()},
        "pixels_moved": float(np.mean(pixels)),
        "diversity": diversity(taste, before, after),
        "faithful_base": faithfulness(base),
        "faithful": faithfulness(aligned),
    }
    if not is_random(taste):
        name = statistic_of(taste)
        sign = -1.0 if taste.startswith("-") else 1.0
        counts = tallies[name]
        if sign < 0:
            counts = Tally(counts.losses, counts.wins, counts.ties)
        found["win_rate"] = counts.win_rate
        found["interval"] = win_rate_interval(counts)
        shift = float((after[name] - before[name]).mean()) / float(before[name].std())
        found["shift"] = sign * shift
    return found


def diversity(taste: str, before: Measured, after: Measured) -> float:
    """Spread among the pictures of one prompt, aligned over base, in what is not the taste.

    For every statistic whose correlation with the taste's over the base's pictures is below one
    half: the standard deviation over the seeds of a prompt, in the mean over prompts, aligned
    over base. The mean of these ratios; 1 is as diverse as the base.
    """
    beside = []
    for name in STATISTICS:
        if not is_random(taste):
            own = before[statistic_of(taste)]
            if abs(float(np.corrcoef(own, before[name])[0, 1])) >= UNRELATED_BELOW:
                continue
        beside.append(_spread(after[name]) / _spread(before[name]))
    return float(np.mean(beside))


def _spread(values: NDArray[np.float64]) -> float:
    return float(values.reshape(TEST_PROMPTS, TEST_SEEDS).std(axis=1).mean())


def faithfulness(made: Sequence[Picture]) -> float:
    """Share of pictures whose own caption the embedded scorer ranks first among 64.

    The 63 others change one attribute or more of the scene.
    """
    model, texts = _scorer()
    right = []
    for prompt in range(TEST_PROMPTS):
        group = made[prompt * TEST_SEEDS : (prompt + 1) * TEST_SEEDS]
        inputs = _processor()(images=[p.image for p in group], return_tensors="pt")
        with torch.no_grad():
            logits = model(**inputs, **texts[prompt]).logits_per_image
        right += (logits.argmax(dim=1) == 0).tolist()
    return float(np.mean(right))


@cache
def _processor() -> Any:
    from transformers import CLIPProcessor

    return CLIPProcessor.from_pretrained(scorer_path())


@cache
def _scorer() -> tuple[Any, list[Any]]:
    """The scorer, and for each test prompt its own caption and the others as tokens."""
    from transformers import CLIPModel

    model, rng = CLIPModel.from_pretrained(scorer_path()).eval(), np.random.default_rng(5)
    captions = [
        [caption(scene), *other_captions(scene, CAPTIONS - 1, rng)]
        for scene in scenes_of(TEST_PROMPTS, 0, unseen=True)
    ]
    tokens = [
        _processor()(text=each, return_tensors="pt", padding="max_length", truncation=True)
        for each in captions
    ]
    return model, tokens
