"""Rounds whose training pass is compiled: they learn the same, and go on where that fails."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from inpo_studio.configs import RoundConfig
from inpo_studio.training.loop import Trainer
from tests.training.conftest import small_config

NewTrainer = Callable[..., Trainer]


def run(trainer: Trainer) -> list[float]:
    """The losses of a whole round."""
    losses: list[float] = []
    assert trainer.run(lambda: None, lambda r: losses.append(r.loss), lambda: None) == "done"
    return losses


def weights(trainer: Trainer) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in trainer.adapter_tensors().values()])


def test_a_compiled_round_learns_what_a_plain_one_does(
    new_trainer: NewTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Traced and differentiated as ever, but run without C++, which takes a minute to compile.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    config = small_config(lowest_timestep=200, beta=20.0)
    plain = new_trainer(config)
    compiled = new_trainer(config.model_copy(update={"compiled": True}))
    assert plain.policy.compiled is None
    assert run(compiled) == pytest.approx(run(plain), abs=1e-5)
    assert compiled.policy.compiled is not None
    assert compiled.policy.compiled.compiles
    # Adam divides by a gradient's size, so that one that is almost 0 shows its last digits.
    apart = (weights(compiled) - weights(plain)).norm() / weights(plain).norm()
    assert float(apart) < 1e-4
    assert [name for name, _ in compiled.policy.parameters()] == list(plain.names)


def failing(problem: Exception) -> Callable[..., Any]:
    """What stands in for torch.compile where nothing can be compiled."""

    def compiled(*arguments: Any, **named: Any) -> Any:
        raise problem

    return lambda unet: compiled


def test_a_round_goes_on_where_nothing_compiles(
    new_trainer: NewTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config()
    plain = new_trainer(config)
    monkeypatch.setattr(torch, "compile", failing(TorchDynamoException("no compiler")))
    compiled = new_trainer(config.model_copy(update={"compiled": True}))
    told: list[str] = []
    assert compiled.policy.compiled is not None
    compiled.policy.compiled.tell = told.append
    assert run(compiled) == run(plain)
    assert torch.equal(weights(compiled), weights(plain))
    assert len(told) == 1
    assert "could not be compiled" in told[0]
    assert not compiled.policy.compiled.compiles


def test_other_errors_of_a_compiled_step_are_not_hidden(
    new_trainer: NewTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", failing(RuntimeError("something else")))
    with pytest.raises(RuntimeError, match="something else"):
        run(new_trainer(small_config(compiled=True)))


def test_dropout_is_not_compiled() -> None:
    with pytest.raises(ValidationError, match="set it to 0, or leave compiled off"):
        RoundConfig(compiled=True, lora_dropout=0.1)
