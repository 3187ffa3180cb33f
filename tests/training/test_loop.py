"""The loop on small random pipelines: exact, repeatable, resumable, for every family."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inpo_studio.diffusion.adapters import save_adapter
from inpo_studio.training.loop import DivergedError, StepRecord, Trainer
from inpo_studio.training.policy import POLICY
from inpo_studio.training.state import restore, save_state
from tests.training.conftest import small_config

NewTrainer = Callable[..., Trainer]


def run(trainer: Trainer) -> list[StepRecord]:
    records: list[StepRecord] = []
    assert trainer.run(lambda: None, records.append, lambda: None) == "done"
    return records


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("kind", ["sd15", "sd2v", "sdxl"])
def test_a_round_trains_every_family(new_trainer: NewTrainer, kind: str) -> None:
    trainer = new_trainer(small_config(), kind)
    before = {name: tensor.clone() for name, tensor in trainer.adapter_tensors().items()}
    records = run(trainer)
    assert [record.step for record in records] == [1, 2, 3, 4]
    assert all(math.isfinite(record.loss) for record in records)
    assert records[0].loss == pytest.approx(math.log(2), abs=1e-4)
    assert records[0].gradient_norm > 0
    assert [record.validation_ranked_right is None for record in records] == [True, False] * 2
    assert not same(before, trainer.adapter_tensors())


def test_two_runs_give_the_same_bytes(new_trainer: NewTrainer) -> None:
    first, second = new_trainer(small_config()), new_trainer(small_config())
    run(first)
    torch.manual_seed(99)
    run(second)
    assert same(first.adapter_tensors(), second.adapter_tensors())


@pytest.mark.parametrize("averaging", [0.0, 0.9])
@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_resumed_run_gives_the_same_bytes(
    new_trainer: NewTrainer, tmp_path: Path, stop_after: int, averaging: float
) -> None:
    config = small_config(weight_averaging=averaging)
    whole = new_trainer(config)
    run(whole)
    stopped = new_trainer(config)
    asked = iter([None] * stop_after + ["pause"])
    ending = stopped.run(
        lambda: next(asked),  # type: ignore[arg-type, return-value]
        lambda record: None,
        lambda: save_state(stopped, tmp_path, {"a": 1}),  # type: ignore[arg-type, return-value]
    )
    assert ending == "pause"
    resumed = new_trainer(config)
    assert restore(resumed, tmp_path, {"a": 1})
    assert resumed.step == stop_after
    run(resumed)
    assert same(whole.adapter_tensors(), resumed.adapter_tensors())


def test_micro_batches_give_the_same_result(new_trainer: NewTrainer) -> None:
    whole = new_trainer(small_config(steps=1))
    split = new_trainer(small_config(steps=1, micro_batch_pairs=1))
    run(whole)
    run(split)
    for (name, left), (_, right) in zip(
        whole.policy.parameters(), split.policy.parameters(), strict=True
    ):
        assert left.grad is not None
        assert right.grad is not None
        torch.testing.assert_close(left.grad, right.grad, rtol=1e-4, atol=1e-5, msg=name)


def test_the_cached_reference_is_the_reference(new_trainer: NewTrainer) -> None:
    trainer = new_trainer(small_config(noise_sharing="own", noise_mixing=0))
    micro = next(trainer.batches.of_step(0))
    assert micro.reference is not None
    errors = trainer.batches.errors(trainer.policy, micro)
    # Policy and reference agree before the first step, so their errors must.
    torch.testing.assert_close(errors.policy_winner, errors.reference_winner, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(errors.policy_loser, errors.reference_loser, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"noise": "forward"},
        {"noise_sharing": "own", "noise_mixing": 0.0},
        {"noise_sharing": "own", "noise_mixing": 0.5},
        {"noise_sharing": "shared", "noise_mixing": 0.5},
        {"noise_sharing": "midpoint", "noise_mixing": 0.5},
        {"prompt_dropout": 0.5},
        {"objective": "ipo"},
        {"objective": "diffusion_dpo", "noise": "forward"},
    ],
)
def test_swapping_every_label_flips_the_gradient(
    new_trainer: NewTrainer, changes: dict[str, object]
) -> None:
    def gradients(swap: bool) -> list[Tensor]:
        trainer = new_trainer(small_config(**changes))
        data = trainer.batches.data
        if swap:
            pairs = data.train
            winner, loser = pairs.winner.clone(), pairs.loser.clone()
            pairs.winner.copy_(loser)
            pairs.loser.copy_(winner)
        for micro in trainer.batches.of_step(0):
            errors = trainer.batches.errors(trainer.policy, micro)
            trainer.batches.losses(errors, micro).sum().backward()
        return [p.grad.clone() for p in trainer.parameters if p.grad is not None]

    straight, swapped = gradients(False), gradients(True)
    assert max(float(gradient.abs().max()) for gradient in straight) > 0
    for one, other in zip(straight, swapped, strict=True):
        # float32 rounds off some 1e-5 of the largest entry, which is much of a small one.
        atol = 1e-6 + 2e-5 * float(one.abs().max())
        torch.testing.assert_close(one, -other, rtol=1e-3, atol=atol)


def test_the_policy_starts_as_a_copy_of_its_parent(new_trainer: NewTrainer, tmp_path: Path) -> None:
    parent = new_trainer(small_config())
    run(parent)
    save_adapter(parent.policy.pipeline.unet, POLICY, tmp_path / "parent", {})
    child = new_trainer(small_config(seed=5), parent=tmp_path / "parent")
    assert same(parent.adapter_tensors(), child.adapter_tensors())
    records = run(child)
    assert records[0].loss == pytest.approx(math.log(2), abs=1e-4)
    frozen = dict(child.policy.pipeline.unet.named_parameters())
    kept = [p for name, p in frozen.items() if ".parent." in name]
    assert kept
    assert not any(parameter.requires_grad for parameter in kept)
    assert not same(parent.adapter_tensors(), child.adapter_tensors())


def test_a_diverging_round_stops_with_advice(new_trainer: NewTrainer) -> None:
    trainer = new_trainer(small_config(steps=9))
    with torch.no_grad():
        trainer.parameters[1].fill_(float("nan"))
    with pytest.raises(DivergedError, match="lower the learning rate"):
        run(trainer)
    assert trainer.step == 3


def test_base_weights_are_never_trained(new_trainer: NewTrainer) -> None:
    trainer = new_trainer(small_config())
    unet = trainer.policy.pipeline.unet
    base = {n: p.clone() for n, p in unet.named_parameters() if "lora" not in n}
    run(trainer)
    now = dict(unet.named_parameters())
    assert all(torch.equal(now[name], tensor) for name, tensor in base.items())
