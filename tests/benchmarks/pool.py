"""Pictures of the base model, made once and shared by every cell of a grid."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from inpo_studio.configs import GenerationConfig
from inpo_studio.diffusion.loading import Pipeline
from inpo_studio.diffusion.sampling import sample
from inpo_studio.postcards.scenes import Scene, caption, held_out, random_scene
from inpo_studio.seeds import Variation, derive_seed
from inpo_studio.training.dataset import FrozenPair
from tests.benchmarks.tastes import draw_of, is_random, score

GENERATION = GenerationConfig(guidance=3.0, steps=20, batch_size=16)
TEST_PROMPTS, TEST_SEEDS = 12, 4


@dataclass(frozen=True)
class Picture:
    """A picture of ``prompt`` at ``seed``, and the latents ``(c, h, w)`` it was decoded from."""

    prompt: str
    seed: int | Variation
    image: Image.Image
    latents: torch.Tensor


def scenes_of(count: int, seed: int, unseen: bool) -> list[Scene]:
    """``count`` scenes with different captions; ``unseen`` ones were kept out of the training."""
    rng = np.random.default_rng([seed, 41 if unseen else 40])
    found: dict[str, Scene] = {}
    while len(found) < count:
        scene = random_scene(rng)
        if held_out(scene) == unseen:
            found.setdefault(caption(scene), scene)
    return list(found.values())


def prompts_of(count: int, seed: int, unseen: bool) -> list[str]:
    """The captions of :func:`scenes_of`."""
    return [caption(scene) for scene in scenes_of(count, seed, unseen)]


def pictures(
    pipeline: Pipeline,
    prompts: Sequence[str],
    seeds: Sequence[int | Variation],
    kept: Path | None = None,
) -> list[Picture]:
    """Pictures of ``prompts`` at ``seeds``, kept in the file ``kept`` when named.

    A kept file may hold more pictures than are asked for: the first ones are taken.
    """
    if kept is not None and kept.exists():
        with np.load(kept) as stored:
            pixels, latents = stored["pixels"], stored["latents"]
        return [
            Picture(prompt, seed, Image.fromarray(pixels[i]), torch.from_numpy(latents[i]))
            for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
        ]
    made: list[Picture] = []
    size = GENERATION.batch_size
    for start in tqdm(range(0, len(prompts), size), desc="pictures", leave=False):
        rows = slice(start, start + size)
        for offset, s in enumerate(sample(pipeline, prompts[rows], seeds[rows], GENERATION)):
            made.append(Picture(prompts[start + offset], seeds[start + offset], s.image, s.latents))
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        partly = kept.with_suffix(".part.npz")
        np.savez(
            partly,
            pixels=np.stack([np.asarray(p.image) for p in made]),
            latents=np.stack([p.latents.numpy() for p in made]),
        )
        partly.replace(kept)
    return made


def training_pictures(
    pipeline: Pipeline,
    folder: Path,
    seed: int,
    prompts: int,
    choices: int,
    most: int,
    variation: float,
) -> list[Picture]:
    """The pictures of ``choices`` pairs, two neighbours each, of a pool of ``most`` pairs.

    Pair i is of prompt i modulo ``prompts``, so fewer choices are a part of more. As in the
    studio, a pair's second picture is its first's by ``variation``; 1 is a seed of its own.
    """
    texts = prompts_of(prompts, seed, unseen=False)
    each = [texts[i // 2 % prompts] for i in range(2 * most)]
    seeds = [derive_seed(seed, "pair", i) % 2**31 for i in range(len(each))]
    drawn: list[int | Variation] = [
        Variation(seeds[i - 1], seeds[i], variation) if i % 2 else seeds[i]
        for i in range(len(each))
    ]
    kept = folder / f"pairs-{prompts}-{most}-{seed}-{variation:g}.npz"
    return pictures(pipeline, each, drawn, kept)[: 2 * choices]


def unseen_pictures(pipeline: Pipeline, kept: Path | None) -> list[Picture]:
    """TEST_SEEDS pictures in a row of each of TEST_PROMPTS prompts that no training has seen."""
    texts = prompts_of(TEST_PROMPTS, 0, unseen=True)
    prompts = [text for text in texts for _ in range(TEST_SEEDS)]
    return pictures(pipeline, prompts, list(range(TEST_SEEDS)) * TEST_PROMPTS, kept)


def label(made: Sequence[Picture], taste: str, noise: float, seed: int) -> list[FrozenPair]:
    """Neighbouring pictures as pairs, labelled by ``taste``, a share ``noise`` of them wrongly.

    Every taste has its own wrong ones, and exactly so many: the same few for all, which may be
    the pairs that say most or least, would make one draw of a seed's cells. The tastes
    ``random``, ``random2``, ... flip a coin of their own, ``-random`` takes the other side of
    each. One prompt in ten is validation.
    """
    rng = np.random.default_rng([seed, 7, *draw_of(taste)])
    wrong = _wrong_ones(len(made) // 2, taste, noise, seed)
    prompts = list(dict.fromkeys(p.prompt for p in made))
    pairs = []
    for index in range(0, len(made), 2):
        first, second = made[index], made[index + 1]
        # The second of two, as the labellings of the results were drawn.
        coin = bool(rng.random(2)[1] < 0.5)
        if is_random(taste):
            better = coin != taste.startswith("-")
        else:
            better = score(taste, first.image) > score(taste, second.image)
        chosen_first = better != (index // 2 in wrong)
        winner, loser = (index, index + 1) if chosen_first else (index + 1, index)
        split = "validation" if prompts.index(first.prompt) % 10 == 9 else "train"
        pairs.append(FrozenPair(str(index), first.prompt, str(winner), str(loser), 1.0, split))
    return pairs


def _wrong_ones(pairs: int, taste: str, noise: float, seed: int) -> set[int]:
    """Which of ``pairs`` are labelled wrongly."""
    rng = random.Random(derive_seed(seed, "wrong", taste))
    return set(rng.sample(range(pairs), round(noise * pairs)))
