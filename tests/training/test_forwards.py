"""What a pair costs, counted at the network, and that the cheap ways are the same as the plain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from inpo_studio.configs import RoundConfig
from inpo_studio.inpo.inversion import level_above
from inpo_studio.inpo.schedule import add_noise
from inpo_studio.training.errors import MicroBatch, predict_reference
from inpo_studio.training.forwards import PUBLISHED_PER_PAIR, count_forwards
from inpo_studio.training.loop import Trainer
from inpo_studio.training.noising import draw
from tests.training.conftest import small_config

NewTrainer = Callable[..., Trainer]


def one_step(trainer: Trainer, step: int = 0) -> float:
    """Forwards' worth per pair of one training step."""
    with count_forwards(trainer.policy.pipeline.unet) as counted:
        for micro in trainer.batches.of_step(step):
            errors = trainer.batches.errors(trainer.policy, micro)
            trainer.batches.losses(errors, micro).sum().backward()
    return counted.worth / trainer.config.batch_pairs


@pytest.mark.parametrize(
    ("changes", "per_pair"),
    [
        ({}, 4),
        ({"micro_batch_pairs": 1}, 4),
        ({"noise_sharing": "shared"}, 8),
        ({"noise_sharing": "own"}, 8),
        ({"noise_sharing": "own", "noise_mixing": 0}, 6),
        ({"objective": "diffusion_dpo"}, 8),
    ],
)
def test_forwards_a_pair(
    new_trainer: NewTrainer, changes: dict[str, object], per_pair: float
) -> None:
    assert one_step(new_trainer(small_config(**changes))) == per_pair


@pytest.mark.parametrize(("sharing", "per_pair"), [("midpoint", 3), ("shared", 6)])
def test_a_reference_that_repeats_is_predicted_once(
    new_trainer: NewTrainer, sharing: str, per_pair: float
) -> None:
    trainer = new_trainer(small_config(noise_sharing=sharing, noise_mixing=0))
    assert one_step(trainer, 0) > per_pair
    assert one_step(trainer, 0) == per_pair


def test_the_published_step_costs_what_was_published(new_trainer: NewTrainer) -> None:
    config = RoundConfig.published(rank=2, alpha=2.0, dtype="float32", prompt_dropout=0.5)
    trainer = new_trainer(config)
    grid = trainer.batches.grid
    draws = draw(config, 0, len(trainer.batches.data.train), grid, (4, 8, 8), 1000)
    steps_up = 2 * float((draws.level + 1).float().mean())
    assert one_step(trainer) == pytest.approx(steps_up + 8)
    anywhere = 2 * float((level_above(grid, torch.arange(1000)) + 1).float().mean())
    assert anywhere + 8 == pytest.approx(PUBLISHED_PER_PAIR, abs=0.1)


def test_validation_asks_the_reference_once(new_trainer: NewTrainer) -> None:
    trainer = new_trainer(small_config())
    counts = []
    for _ in range(2):
        with count_forwards(trainer.policy.pipeline.unet) as counted:
            trainer.batches.validation(trainer.policy)
        counts.append(counted.images)
    assert counts == [2 * 4 * 2, 2 * 4]  # two pairs at four levels
    assert counted.trained == 0


def _two_forwards(trainer: Trainer, micro: MicroBatch, x_0: tuple[Tensor, Tensor]) -> MicroBatch:
    """The plain way: each picture noised by itself, and a forward for each."""
    alpha_bar = trainer.batches.schedule.at(micro.timestep)
    x_t = [add_noise(side, tau, alpha_bar) for side, tau in zip(x_0, micro.noise, strict=True)]
    return replace(micro, x_t=torch.cat(x_t), reference=None)


@pytest.mark.parametrize("kind", ["sd15", "sd2v", "sdxl"])
def test_one_forward_for_the_pair_is_the_same_as_two(new_trainer: NewTrainer, kind: str) -> None:
    trainer = new_trainer(small_config(lowest_timestep=200, beta=20.0), kind)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(3)
        for parameter in trainer.parameters:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    micro = next(trainer.batches.of_step(0))
    draws = draw(trainer.config, 0, 6, trainer.batches.grid, (4, 8, 8), 1000)
    pairs, x_0 = trainer.batches.data.train.take(draws.pairs), trainer.batches.data.x_0
    plain = _two_forwards(trainer, micro, (x_0[pairs.winner], x_0[pairs.loser]))
    assert (micro.looks, plain.looks) == (1, 2)

    def measured(batch: MicroBatch) -> tuple[list[Tensor], list[Tensor]]:
        trainer.optimizer.zero_grad()
        errors = trainer.batches.errors(trainer.policy, batch)
        trainer.batches.losses(errors, batch).sum().backward()
        assert float(errors.detach().margin().abs().max()) > 1e-4
        found = [errors.policy_winner, errors.policy_loser, errors.reference_winner]
        return found, [p.grad.clone() for p in trainer.parameters if p.grad is not None]

    (errors, gradients), (errors_2, gradients_2) = measured(micro), measured(plain)
    for one, two in zip(errors, errors_2, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)
    largest = max(float(gradient.abs().max()) for gradient in gradients_2)
    for one, two in zip(gradients, gradients_2, strict=True):
        assert float((one - two).abs().max()) < 1e-4 * largest


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("sharing", ["midpoint", "shared", "own"])
def test_a_kept_prediction_is_the_references(
    new_trainer: NewTrainer, sharing: str, dropout: float
) -> None:
    config = small_config(noise_sharing=sharing, noise_mixing=0, prompt_dropout=dropout)
    trainer = new_trainer(config)
    for step in range(3):
        for micro in trainer.batches.of_step(step):
            assert micro.reference is not None
            now = predict_reference(trainer.policy, micro)
            torch.testing.assert_close(micro.reference, now, rtol=1e-4, atol=1e-5)


def test_a_kept_prediction_does_not_depend_on_the_way_there(new_trainer: NewTrainer) -> None:
    config = small_config(noise_sharing="midpoint", noise_mixing=0)
    through, straight = new_trainer(config), new_trainer(config)
    for step in range(3):
        list(through.batches.of_step(step))
    for one, other in zip(through.batches.of_step(3), straight.batches.of_step(3), strict=True):
        assert one.reference is not None
        assert other.reference is not None
        assert torch.equal(one.reference, other.reference)


def test_fresh_noise_alone_needs_no_inversion(new_trainer: NewTrainer) -> None:
    trainer = new_trainer(small_config(noise_mixing=1.0))
    assert not trainer.config.needs_inversion
    assert one_step(trainer) == 4
