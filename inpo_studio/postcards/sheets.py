"""Contact sheets: many generated postcards on one picture, to look at."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from .checkpointing import rng_for
from .scenes import caption, random_scene


def sheet_prompts(count: int, seed: int = 0) -> list[str]:
    """Canonical captions of `count` random scenes that are drawn apart from the training's."""
    rng = rng_for(seed, "sheet", 0)
    return [caption(random_scene(rng)) for _ in range(count)]


@torch.inference_mode()
def write_sheet(
    pipeline: StableDiffusionPipeline,
    path: Path,
    columns: int = 8,
    rows: int = 6,
    steps: int = 20,
    guidance: float = 3.0,
) -> None:
    """Paint one picture a prompt and write them as a PNG of `rows` by `columns`."""
    pipeline.set_progress_bar_config(disable=True)
    prompts = sheet_prompts(rows * columns)
    size = pipeline.vae.config.sample_size
    sheet = Image.new("RGB", (columns * size, rows * size))
    for row in range(rows):
        pictures = pipeline(
            prompts[row * columns : (row + 1) * columns],
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(row * columns + i) for i in range(columns)],
            height=size,
            width=size,
        ).images
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (column * size, row * size))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
