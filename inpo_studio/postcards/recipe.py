"""The numbers of the recipe: sizes, step counts and learning rates, all in one place."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from .checkpointing import write_text

STAGES = (
    "renders",
    "tokenizer",
    "vae",
    "latents",
    "decoder",
    "unet",
    "finish",
    "scorer",
    "package",
)
IMAGE_SIZE = 128
MAX_TOKENS = 32


@dataclass(frozen=True)
class Recipe:
    """What a build is made of. Equal recipes give equal weights on equal software and threads.

    Step counts are fixed numbers, not minutes, so that a rebuild repeats the first build.
    """

    seed: int = 0
    scenes: int = 24_000
    validation_scenes: int = 512
    vocabulary: int = 1_024

    vae_widths: tuple[int, ...] = (32, 64, 96, 88)
    vae_channels: int = 12
    vae_steps: int = 3_000
    vae_whole_steps: int = 300
    vae_crop: int = 64
    vae_batch: int = 16
    vae_lr: float = 2e-3
    vae_muon_lr: float = 5e-3
    vae_kl: float = 1e-4

    decoder_steps: int = 900
    decoder_lr: float = 5e-4
    decoder_muon_lr: float = 2e-3
    decoder_noise: float = 0.35

    unet_widths: tuple[int, ...] = (64, 128, 192)
    text_width: int = 128
    text_layers: int = 2
    unet_steps: int = 4_500
    unet_batch: int = 32
    unet_lr: float = 8e-4
    unet_muon_lr: float = 3e-3
    unet_empty: float = 0.1
    unet_preview_every: int = 900

    finish_steps: int = 800
    finish_lr: float = 3e-4
    finish_muon_lr: float = 1.2e-3
    finish_offset: float = 0.4

    scorer_width: int = 96
    scorer_layers: int = 4
    scorer_steps: int = 1_500
    scorer_batch: int = 128
    scorer_lr: float = 1e-3
    scorer_muon_lr: float = 3e-3
    scorer_negatives: int = 4

    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        for name in ("scenes", "validation_scenes", "vae_steps", "unet_steps", "scorer_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}.")
        if self.vae_whole_steps > self.vae_steps:
            raise ValueError(
                f"vae_whole_steps ({self.vae_whole_steps}) must not exceed vae_steps "
                f"({self.vae_steps})."
            )


def remember(recipe: Recipe, out: Path) -> None:
    """Write the recipe into the build folder, or check that the folder was begun with it.

    Raises ValueError when the folder holds a build of another recipe.
    """
    path = out / "recipe.json"
    text = json.dumps(dataclasses.asdict(recipe), indent=2)
    if path.exists():
        if json.loads(path.read_text()) != json.loads(text):
            raise ValueError(
                f"{out} was begun with other numbers (see {path}): take an empty folder, "
                "or the same options as the first time."
            )
        return
    write_text(path, text + "\n")
