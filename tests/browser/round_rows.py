"""Rounds as a worker would leave them in the database, without any training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from inpo_studio.studio import Studio
from inpo_studio.studio.align.planning import default_config
from inpo_studio.studio.label.choices import record_choice
from storage.adapters import add_adapter, add_snapshot
from storage.choices import live_choices
from storage.metrics import record_metrics
from storage.prompts import add_prompts
from storage.rounds import (
    claim_attempt,
    create_round,
    freeze_choices,
    set_state,
    update_progress,
)
from storage.samples import add_sample
from storage.schema import Prompt, Round
from tests.browser.serving import SIDE, draw, seed_pairs

PROMPTS = [
    "a red barn by a lake",
    "a lighthouse in a storm",
    "a field of tulips at noon",
    "an old stone bridge in autumn",
    "a snowy village at night",
    "a sailing boat at sunset",
    "a quiet street in the rain",
    "a windmill on a green hill",
]


def label(studio: Studio, count: int, *, held: int = 8, texts: Sequence[str] = PROMPTS) -> None:
    """Choose on so many pairs of training prompts, and on `held` more of a validation prompt."""
    while _clear(studio, "train") < count or _clear(studio, "validation") < held:
        for pair in seed_pairs(studio, list(texts), 2 * len(texts)):
            split = pair.prompt.split
            if split not in ("train", "validation"):
                continue
            if _clear(studio, split) >= (count if split == "train" else held):
                continue
            record_choice(
                studio,
                key=pair.id,
                pair_id=pair.id,
                choice="left",
                left_image_id=pair.first_image_id,
                right_image_id=pair.second_image_id,
            )
        if held and _clear(studio, "validation") == 0:
            add_validation_prompt(studio, texts)


def add_validation_prompt(studio: Studio, texts: Sequence[str]) -> None:
    """Make the last prompt one that rounds are checked on."""
    with studio.database.write() as session:
        prompt = add_prompts(session, [texts[-1]], source="own", kind="label")[0]
        prompt.split = "validation"


def _clear(studio: Studio, split: str) -> int:
    with studio.database.read() as session:
        found = live_choices(session, studio.settings.model)
        return sum(choice.pair.prompt.split == split for choice in found)


def add_round(
    studio: Studio,
    *,
    steps: int = 80,
    parent: Round | None = None,
    changes: dict[str, Any] | None = None,
) -> Round:
    """A queued round of the choices there are."""
    config = default_config(64).model_copy(update={"steps": steps, **(changes or {})})
    with studio.database.write() as session:
        return create_round(
            session,
            model=studio.settings.model,
            parent_id=None if parent is None else parent.id,
            config=config.model_dump(),
            seed=config.seed,
            total_steps=config.steps,
        )


def begin_training(studio: Studio, made: Round) -> int:
    """Freeze the choices and claim the round; returns the attempt."""
    with studio.database.write() as session:
        freeze_choices(session, made.id)
        attempt = claim_attempt(session, made.id)
        update_progress(session, made.id, attempt, stage="train")
        return attempt


def train(studio: Studio, made: Round, attempt: int, first: int, last: int) -> None:
    """Write the figures of the steps from `first` to `last`, and samples every 20 steps."""
    rng = np.random.default_rng(1000 * made.number + first)
    with studio.database.write() as session:
        for step in range(first, last + 1):
            learnt = 1 - math.exp(-step / 30)
            checked = step % 10 == 0
            record_metrics(
                session,
                made.id,
                attempt,
                step,
                loss=0.693 - 0.25 * learnt + 0.05 * rng.normal(),
                train_ranked_right=float(np.clip(round(4 + 3.4 * learnt + rng.normal()), 0, 8)) / 8,
                validation_ranked_right=(
                    round(4 + 2.4 * learnt - 1.1 * (step > 70)) / 8 if checked else None
                ),
                margin=-0.0009 * learnt + 0.0002 * rng.normal(),
                validation_margin=-0.0004 * learnt if checked else None,
                winner_error=0.0004 * learnt**2 + 0.00005 * rng.normal(),
                loser_error=0.0013 * learnt**2 + 0.00005 * rng.normal(),
                gradient_norm=1.0,
                learning_rate=1e-3,
                seconds=0.9,
            )
        update_progress(session, made.id, attempt, step=last)
    for step in range(0 if first == 1 else first, last + 1):
        if step % 20 == 0:
            add_samples(studio, made, attempt, step)


def add_samples(studio: Studio, made: Round, attempt: int, step: int) -> None:
    """Draw three pictures that drift with the steps, and keep an adapter of the step."""
    with studio.database.write() as session:
        prompts = _sampled(add_prompts(session, PROMPTS, source="own", kind="label"))
        for position, prompt in enumerate(prompts):
            first = np.asarray(draw(9000 + position), dtype=float)
            second = np.asarray(draw(9100 + position + 10 * made.number), dtype=float)
            share = min(1.0, step / 100)
            mixed = (1 - share) * first + share * second
            add_sample(
                session,
                round_id=made.id,
                attempt=attempt,
                step=step,
                position=position,
                prompt_id=prompt.id,
                seed=position,
                sha256=studio.files.put_image(_image(mixed)),
                width=SIDE,
                height=SIDE,
            )
        if step:
            folder = f"rounds/{made.id}/adapters/{step:06d}"
            (studio.settings.workspace / folder).mkdir(parents=True, exist_ok=True)
            add_snapshot(
                session,
                sha256=f"{made.number:032x}{step:032x}",
                folder=folder,
                model=made.model,
                rank=8,
                alpha=8.0,
                step=step,
                round_id=made.id,
                attempt=attempt,
            )


def _sampled(prompts: Sequence[Prompt]) -> list[Prompt]:
    return [prompt for prompt in prompts if prompt.split != "held_out"][:3]


def _image(values: Any) -> Any:
    from PIL import Image

    return Image.fromarray(values.astype(np.uint8))


def finish(studio: Studio, made: Round, attempt: int, step: int) -> Round:
    """Publish the adapter and end the round."""
    folder = f"adapters/{made.id}"
    (studio.settings.workspace / folder).mkdir(parents=True, exist_ok=True)
    with studio.database.write() as session:
        add_adapter(
            session,
            sha256=f"{made.number:064x}",
            folder=folder,
            model=made.model,
            rank=8,
            alpha=8.0,
            step=step,
            round_id=made.id,
            attempt=attempt,
        )
        return set_state(session, made.id, "done", attempt=attempt)


def add_done(studio: Studio, **asked: Any) -> Round:
    """A round that has run to its end."""
    made = add_round(studio, **asked)
    attempt = begin_training(studio, made)
    train(studio, made, attempt, 1, made.total_steps)
    return finish(studio, made, attempt, made.total_steps)
