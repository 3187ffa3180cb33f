"""The labels that the alignment benchmark trains on."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from tests.benchmarks.pool import Picture, label


def pool(pairs: int) -> list[Picture]:
    """Pictures of one grey each, no two alike, on four prompts."""
    greys = np.random.default_rng(0).permutation(2 * pairs)
    return [
        Picture(f"p{i // 2 % 4}", i, Image.new("RGB", (4, 4), (g,) * 3), torch.zeros(1))
        for i, g in enumerate(greys.tolist())
    ]


def wrong(taste: str, noise: float, seed: int = 0) -> set[str]:
    """The pairs of which the darker picture was chosen as the brighter one, or the other way."""
    made = pool(40)
    grey = [picture.image.getpixel((0, 0))[0] for picture in made]
    better = -1 if taste.startswith("-") else 1
    return {
        pair.pair_id
        for pair in label(made, taste, noise, seed)
        if better * (grey[int(pair.winner)] - grey[int(pair.loser)]) < 0
    }


def test_a_share_of_wrong_labels_is_exactly_that_share() -> None:
    assert wrong("bright", 0.0) == set()
    for seed in range(3):
        assert len(wrong("bright", 0.2, seed)) == 8


def test_every_taste_and_seed_has_its_own_wrong_labels() -> None:
    drawn = [wrong("bright", 0.2), wrong("-bright", 0.2), wrong("bright", 0.2, 1)]
    assert len({frozenset(pairs) for pairs in drawn}) == 3
    assert wrong("bright", 0.2) == drawn[0]
