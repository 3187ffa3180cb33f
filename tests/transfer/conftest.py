"""The studio's fixture, and rounds of small models whose adapters change pictures visibly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inpo_studio.configs import AdaptedLayers, GenerationConfig, RoundConfig
from inpo_studio.studio import Studio
from storage.adapters import add_adapter
from storage.rounds import claim_attempt, create_round, set_state
from storage.schema import Round
from tests.diffusion.conftest import diffusers_pipeline
from tests.studio.conftest import studio

__all__ = ["diffusers_pipeline", "studio"]

PROMPTS, SEEDS = ["a red house", "two boats"], [5, 6]
GENERATION = GenerationConfig(steps=4, guidance=3.0, adapter_on="both")
RANK = 4


@dataclass(frozen=True)
class Aligned:
    """A done round of a model, and pictures that this studio draws with and without it."""

    round: Round
    model: Path
    base: list[Image.Image]
    aligned: list[Image.Image]


@pytest.fixture
def align(studio: Studio, tiny_model: Callable[[str], Path]) -> Callable[..., Aligned]:
    """align(kind, alpha=..., model=..., layers=...) -> a round with a random adapter of rank 4."""

    def make(
        kind: str,
        *,
        alpha: float = 8.0,
        model: Path | None = None,
        layers: AdaptedLayers = "attention",
    ) -> Aligned:
        model = model or tiny_model(kind)
        folder = studio.settings.workspace / "adapters" / f"{kind}-{alpha}"
        sha256, base, aligned = _draw(model, folder, alpha, layers)
        place = folder.relative_to(studio.settings.workspace).as_posix()
        return Aligned(add_round(studio, str(model), place, sha256, alpha), model, base, aligned)

    return make


def add_round(studio: Studio, model: str, folder: str, sha256: str, alpha: float) -> Round:
    """A round of 20 steps that is done and has the adapter in `folder`."""
    config = RoundConfig(rank=RANK, alpha=alpha, steps=20)
    with studio.database.write() as session:
        made = create_round(session, model=model, config=config.model_dump(), seed=0)
        add_adapter(
            session,
            sha256=sha256,
            folder=folder,
            model=model,
            rank=RANK,
            alpha=alpha,
            step=20,
            round_id=made.id,
            attempt=claim_attempt(session, made.id),
        )
        set_state(session, made.id, "done")
        made.ended_at = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
    return made


def _draw(
    model: Path, folder: Path, alpha: float, layers: AdaptedLayers = "attention"
) -> tuple[str, list[Any], list[Any]]:
    import torch

    from inpo_studio.diffusion.adapters import (
        TARGET_MODULES,
        activate,
        adapter_parameters,
        attach_adapter,
        save_adapter,
    )
    from inpo_studio.diffusion.loading import load_pipeline
    from inpo_studio.diffusion.sampling import sample

    pipeline = load_pipeline(str(model), device="cpu", dtype="float32")
    base = [drawn.image for drawn in sample(pipeline, PROMPTS, SEEDS, GENERATION)]
    attach_adapter(pipeline.unet, "made", RANK, alpha, 1, TARGET_MODULES[layers])
    generator = torch.Generator().manual_seed(2)
    # As large as the weights themselves: much more, and rounding alone shows in the pictures.
    deviation = (0.08 * RANK / alpha) ** 0.5
    with torch.no_grad():
        for _, parameter in adapter_parameters(pipeline.unet, "made"):
            parameter.normal_(0, deviation, generator=generator)
    sha256 = save_adapter(pipeline.unet, "made", folder)
    activate(pipeline.unet, ["made"])
    aligned = [drawn.image for drawn in sample(pipeline, PROMPTS, SEEDS, GENERATION)]
    return sha256, base, aligned


def draw_with_diffusers(pipe: Any) -> list[Image.Image]:
    """The same pictures by a pipeline of plain diffusers that samples by DDIM."""
    import torch

    side = pipe.unet.config.sample_size
    noise = [
        torch.randn((1, 4, side, side), generator=torch.Generator().manual_seed(s)) for s in SEEDS
    ]
    drawn = pipe(
        PROMPTS,
        num_inference_steps=GENERATION.steps,
        guidance_scale=GENERATION.guidance,
        latents=torch.cat(noise),
    ).images
    assert isinstance(drawn, list)
    return drawn


def difference(ours: list[Image.Image], theirs: list[Image.Image]) -> int:
    """Largest difference of a pixel's channel, of 255."""
    pairs = zip(ours, theirs, strict=True)
    return max(
        int(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max())
        for one, other in pairs
    )
