"""Rounds trained at once by the benchmark come out as the trainer's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from inpo_studio.diffusion.adapters import remove_adapter
from inpo_studio.diffusion.latents import latent_shape
from inpo_studio.diffusion.loading import load_pipeline
from inpo_studio.training.dataset import FrozenPair, collate
from inpo_studio.training.loop import Trainer
from inpo_studio.training.policy import POLICY, Policy
from inpo_studio.training.prepare import build_batches, condition
from tests.benchmarks import stacked
from tests.training.conftest import PAIRS, small_config


@pytest.mark.parametrize(
    "changes",
    [
        {"noise_sharing": "midpoint"},
        {"noise_sharing": "midpoint", "frequency_cutoff": 1.0},
        {"noise_sharing": "midpoint", "most_displacement": 1e-3},
        {"objective": "diffusion_dpo"},
    ],
)
def test_stacked_rounds_are_the_trainers(
    changes: dict[str, Any], tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    pipeline = load_pipeline(str(tiny_model("sd15")), device="cpu", dtype="float32")
    shape = latent_shape(pipeline)

    def latents(ids: Sequence[str]) -> torch.Tensor:
        rows = [torch.Generator().manual_seed(sum(map(ord, i))) for i in ids]
        return torch.stack([torch.randn(shape, generator=row) for row in rows])

    flipped = [_flipped(pair) for pair in PAIRS]
    rounds = [collate(pairs, latents) for pairs in (PAIRS, flipped)]
    config = small_config(steps=2, **changes)
    policies, _ = stacked.train(pipeline, rounds, config, tmp_path)
    remove_adapter(pipeline.unet, POLICY)
    for index, data in enumerate(rounds):
        prompts = condition(pipeline, data.prompts, pipeline.size)
        policy = Policy.build(pipeline, config, None)
        begun = [weight.detach().clone() for _, weight in policy.parameters()]
        batches = build_batches(policy, config, data, prompts, pipeline.fingerprint, tmp_path)
        trainer = Trainer(policy, batches, config)
        trainer.run(lambda: None, lambda record: None, lambda: None)
        own = torch.cat([weight.detach().flatten() for _, weight in policy.parameters()])
        together = torch.cat([weight[index].detach().flatten() for weight in policies.weights])
        start = torch.cat([weight.flatten() for weight in begun])
        # Adam's first steps make a step of every rounding error, however small the gradient.
        assert float((own - together).norm()) < 0.05 * float((own - start).norm())
        remove_adapter(pipeline.unet, POLICY)


def test_what_a_stacked_round_cannot_follow_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="early stop"):
        stacked.train(None, [], small_config(early_stop=2), tmp_path)  # type: ignore[arg-type]


def _flipped(pair: FrozenPair) -> FrozenPair:
    return replace(pair, winner=pair.loser, loser=pair.winner)
