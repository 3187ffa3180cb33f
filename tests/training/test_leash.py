"""How far a policy's predictions may go from the reference's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from inpo_studio.diffusion.adapters import save_adapter
from inpo_studio.training.leash import Leash
from inpo_studio.training.loop import Trainer
from inpo_studio.training.policy import POLICY
from inpo_studio.training.state import restore, save_state
from tests.training.conftest import small_config

NewTrainer = Callable[..., Trainer]


def away(trainer: Trainer, step: int = 9) -> float:
    """Root mean square displacement on the pairs of a step."""
    with torch.no_grad():
        (micro,) = trainer.batches.of_step(step)
        errors = trainer.batches.errors(trainer.policy, micro)
    return float(errors.displacement.mean().sqrt())


def run(trainer: Trainer) -> None:
    assert trainer.run(lambda: None, lambda record: None, lambda: None) == "done"


def test_a_round_stays_within_its_limit(new_trainer: NewTrainer) -> None:
    changes = {"learning_rate": 0.05, "steps": 8, "warmup_steps": 0}
    free, held = (
        new_trainer(small_config(**changes, most_displacement=most)) for most in (0.0, 2e-3)
    )
    run(free)
    run(held)
    # One step may go beyond it before the next takes it back.
    assert away(free) > 10 * away(held) > 10 * 5e-4


def test_a_prediction_goes_back_by_as_much_as_it_was_too_far(new_trainer: NewTrainer) -> None:
    trainer = new_trainer(small_config(learning_rate=0.01))
    run(trainer)
    before = away(trainer)
    leash = Leash(trainer.policy, before / 4)
    leash.hold(torch.full((4,), (before / 5) ** 2))
    assert away(trainer) == before
    leash.hold(torch.full((4,), before**2))
    assert 0.2 * before < away(trainer) < 0.3 * before


def test_a_child_goes_back_towards_its_parent(new_trainer: NewTrainer, tmp_path: Path) -> None:
    parent = new_trainer(small_config(learning_rate=0.01))
    run(parent)
    save_adapter(parent.policy.pipeline.unet, POLICY, tmp_path / "parent", {})
    child = new_trainer(small_config(learning_rate=0.01, seed=5), parent=tmp_path / "parent")
    run(child)
    begun, ended = parent.adapter_tensors(), {k: v.clone() for k, v in _weights(child).items()}
    Leash(child.policy, 1e-3).hold(torch.full((4,), 4e-6))
    for name, weight in _weights(child).items():
        half = torch.lerp(begun[name], ended[name], 0.5)
        assert torch.allclose(weight, half if "lora_B" in name else ended[name])


def test_a_resumed_round_is_held_alike(new_trainer: NewTrainer, tmp_path: Path) -> None:
    config = small_config(learning_rate=0.05, most_displacement=1e-3)
    whole, stopped, resumed = (new_trainer(config) for _ in range(3))
    run(whole)
    asked = iter([None, None, "pause"])
    stopped.run(
        lambda: next(asked),  # type: ignore[arg-type, return-value]
        lambda record: None,
        lambda: save_state(stopped, tmp_path, {"a": 1}),  # type: ignore[arg-type, return-value]
    )
    assert restore(resumed, tmp_path, {"a": 1})
    run(resumed)
    for name, tensor in whole.adapter_tensors().items():
        assert torch.equal(tensor, resumed.adapter_tensors()[name])


def _weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in trainer.policy.parameters()}
