"""A small round in memory: a tiny pipeline, random latents, pairs of two prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion.latents import latent_shape
from inpo_studio.diffusion.loading import load_pipeline
from inpo_studio.training.dataset import FrozenPair, collate
from inpo_studio.training.loop import Trainer
from inpo_studio.training.policy import Policy
from inpo_studio.training.prepare import build_batches, condition

PAIRS = [
    FrozenPair(str(i), f"prompt {i % 3}", f"w{i}", f"l{i}", 0.5 if i == 3 else 1.0, split)
    for i, split in enumerate(["train"] * 6 + ["validation"] * 2)
]


def small_config(**changes: Any) -> RoundConfig:
    values: dict[str, Any] = {
        "steps": 4,
        "rank": 2,
        "alpha": 2.0,
        "batch_pairs": 4,
        "micro_batch_pairs": 4,
        "levels": 4,
        "lowest_timestep": 0,
        "warmup_steps": 2,
        "validate_every": 2,
        "checkpoint_every": 2,
        "dtype": "float32",
        "beta": 2000.0,
        "noise_mixing": 0.5,
        "winner_safeguard": "off",
        "learning_rate_decay": "none",
    }
    return RoundConfig.model_validate({**values, **changes})


@pytest.fixture
def new_trainer(tiny_model: Callable[[str], Path], tmp_path: Path) -> Callable[..., Trainer]:
    """new_trainer(config, kind="sd15", parent=None) -> Trainer at step 0."""

    def build(config: RoundConfig, kind: str = "sd15", parent: Path | None = None) -> Trainer:
        pipeline = load_pipeline(str(tiny_model(kind)), device="cpu", dtype="float32")
        shape = latent_shape(pipeline)

        def latents(ids: Any) -> torch.Tensor:
            rows = [torch.Generator().manual_seed(sum(map(ord, i))) for i in ids]
            return torch.stack([torch.randn(shape, generator=row) for row in rows])

        data = collate(PAIRS, latents)
        prompts = condition(pipeline, data.prompts, pipeline.size)
        policy = Policy.build(pipeline, config, parent)
        batches = build_batches(policy, config, data, prompts, kind, tmp_path / "cache")
        return Trainer(policy, batches, config)

    return build
