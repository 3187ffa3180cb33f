"""Blind trials with pictures, made without any model: soft pictures of random colours."""

from __future__ import annotations

import numpy as np
from PIL import Image

from inpo_studio.studio import Studio
from storage.comparisons import add_comparison
from storage.images import add_image
from storage.prompts import add_prompts
from storage.schema import Prompt
from storage.trials import get_trial, set_item_comparison, trial_items

SIDE = 64


def add_held_out(studio: Studio, count: int = 6, source: str = "comparison") -> list[Prompt]:
    """Add held-out prompts."""
    texts = [f"a quiet bay number {index}" for index in range(count)]
    with studio.database.write() as session:
        return add_prompts(session, texts, source=source, kind="compare")  # type: ignore[arg-type]


def draw_items(studio: Studio, trial_id: str, count: int | None = None) -> int:
    """Give the next items of a trial their pictures, as a worker would; returns how many.

    The aligned pictures are smoother, so that their files are smaller.
    """
    with studio.database.read() as session:
        trial = get_trial(session, trial_id)
        items = [item for item in trial_items(session, trial_id) if item.comparison_id is None]
    items = items[:count]
    rng = np.random.default_rng(len(items))
    hashes = [
        [studio.files.put_image(_draw(rng, fine)) for fine in (16, 4)] for _ in range(len(items))
    ]
    with studio.database.write() as session:
        for item, pair in zip(items, hashes, strict=True):
            base, aligned = (
                add_image(
                    session,
                    sha256=sha256,
                    width=SIDE,
                    height=SIDE,
                    prompt_id=item.prompt_id,
                    seed=item.seed,
                    model=trial.model,
                    adapter_id=None,
                    guidance=3.0,
                    steps=20,
                ).id
                for sha256 in pair
            )
            made = add_comparison(
                session,
                prompt_id=item.prompt_id,
                seed=item.seed,
                base_image_id=base,
                aligned_image_id=aligned,
                round_id=trial.round_id,
                base_round_id=trial.base_round_id,
                scale=trial.scale,
            )
            set_item_comparison(session, trial_id, item.position, made.id)
    return len(items)


def _draw(rng: np.random.Generator, fine: int) -> Image.Image:
    small = rng.integers(30, 230, size=(fine, fine, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
