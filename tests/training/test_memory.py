"""A round that fits itself to the memory there is, and goes on where it runs out after all."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2DCrossAttn

from inpo_studio.diffusion import fitting
from inpo_studio.diffusion.families import read_configs
from inpo_studio.diffusion.fitting import AtOnce, OutOfMemory
from inpo_studio.diffusion.memory import MARGIN, ModelNeeds
from inpo_studio.diffusion.sources import locate
from inpo_studio.studio.align.watching import watched
from inpo_studio.training import prepare
from inpo_studio.training.ledger import Ledger
from inpo_studio.training.loop import Trainer
from inpo_studio.training.round import Exit
from storage.metrics import list_metrics
from tests.labelled import ROUND
from tests.training.conftest import small_config
from tests.training.test_loop import NewTrainer, run, same
from tests.training.test_round import Bench, bench, own_threads_and_locks

__all__ = ["bench", "own_threads_and_locks"]

REFUSED = "CUDA out of memory. Tried to allocate 2.00 GiB."


@pytest.fixture
def holds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """holds(pictures, trained) -> the sizes that did not fit: more pictures than that run out of
    memory half way through the UNet, or only where gradients are kept."""
    forward = UNetMidBlock2DCrossAttn.forward

    def limit(pictures: int, trained: bool = False) -> list[int]:
        refused: list[int] = []

        def limited(self: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            counts = torch.is_grad_enabled() or not trained
            if counts and len(hidden_states) > pictures:
                refused.append(len(hidden_states))
                raise torch.OutOfMemoryError(REFUSED)
            return forward(self, hidden_states, *args, **kwargs)

        monkeypatch.setattr(UNetMidBlock2DCrossAttn, "forward", limited)
        return refused

    return limit


def figures(one: Bench) -> list[tuple[float, ...]]:
    names = ("loss", "margin", "winner_error", "gradient_norm", "validation_margin")
    with one.studio.database.read() as session:
        rows = list_metrics(session, ROUND)
        return [tuple(getattr(row, name) or 0.0 for name in names) for row in rows]


def assert_same_round(one: Bench, other: Bench) -> None:
    for left, right in zip(figures(one), figures(other), strict=True):
        assert left == pytest.approx(right, rel=1e-4, abs=1e-5)
    weights = [bench.weights(bench.adapters()[-1]) for bench in (one, other)]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=1e-4, atol=1e-5, msg=name)


def test_a_round_goes_on_where_memory_runs_out(
    bench: Callable[..., Bench],
    holds: Callable[..., list[int]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    small = bench(micro_batch_pairs=1)
    assert small.train() is Exit.DONE
    one = bench(micro_batch_pairs=4)
    doing: list[str] = []
    on_step = Ledger.on_step

    def look(self: Ledger, record: Any) -> None:
        on_step(self, record)
        doing.append(watched(one.studio, ROUND).doing)

    monkeypatch.setattr(Ledger, "on_step", look)
    refused = holds(2)
    caplog.set_level(logging.WARNING)
    assert one.train() is Exit.DONE
    # Inversion in whole batches, a step and its halves, samples with guidance.
    assert {16, 8, 4} <= set(refused)
    assert [(s.step, s.position) for s in one.samples()] == [
        (n, p) for n in (0, 2, 4) for p in (0, 1)
    ]
    assert_same_round(one, small)
    said = [record.getMessage() for record in caplog.records]
    assert "Memory ran out at 16 pictures at once; going on with 8." in said
    assert "Memory ran out at 4 pairs at once; going on with 2." in said
    assert doing[0].endswith("Memory ran out at 4 pairs at once; going on with 2.")


def test_halves_are_what_a_smaller_micro_batch_gives(
    new_trainer: NewTrainer, holds: Callable[..., list[int]]
) -> None:
    config = {"weight_averaging": 0.9, "early_stop": 9}
    split = new_trainer(small_config(micro_batch_pairs=2, **config))
    wanted = run(split)
    whole = new_trainer(small_config(micro_batch_pairs=4, **config))
    refused = holds(2, trained=True)
    found = run(whole)
    assert refused == [4]
    assert same(whole.adapter_tensors(), split.adapter_tensors())
    assert [record.loss for record in found] == [record.loss for record in wanted]
    assert [r.validation_margin for r in found] == [r.validation_margin for r in wanted]


def test_validation_is_done_in_smaller_parts_as_well(
    new_trainer: NewTrainer, holds: Callable[..., list[int]]
) -> None:
    trainer = new_trainer(small_config())
    wanted = trainer.batches.validation(trainer.policy)
    assert wanted is not None
    refused = holds(1)
    trainer.step = 2
    found = trainer._validate()
    assert found is not None
    assert set(refused) == {2}
    assert trainer.batches.pairs_at_once == 1
    for one, other in zip(found.fields(), wanted.fields(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_memory_that_runs_out_on_the_way_back(
    new_trainer: NewTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients of an attempt that failed in its second micro-batch must not remain."""
    split, whole = (new_trainer(small_config(micro_batch_pairs=n, steps=2)) for n in (1, 2))
    run(split)
    losses, calls = whole.batches.losses, []

    def heavy(errors: Any, micro: Any) -> torch.Tensor:
        found = losses(errors, micro)
        calls.append(len(found))
        if len(calls) == 2:

            def refuse(gradient: torch.Tensor) -> None:
                raise torch.OutOfMemoryError(REFUSED)

            found.register_hook(refuse)
        return found

    monkeypatch.setattr(whole.batches, "losses", heavy)
    run(whole)
    assert calls == [2, 2, *[1] * 8]
    for (name, left), (_, right) in zip(
        split.policy.parameters(), whole.policy.parameters(), strict=True
    ):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("trained", "sentence"),
    [
        (False, "Not even one picture fits into the device's memory; close other programs"),
        (True, "Not even one pair fits into the device's memory; close other programs"),
    ],
)
def test_where_nothing_fits_the_round_says_the_way_out(
    bench: Callable[..., Bench], holds: Callable[..., list[int]], trained: bool, sentence: str
) -> None:
    one = bench()
    refused = holds(0, trained=trained)
    assert one.train() is Exit.FAILED
    failure = one.round().failure or ""
    assert failure.startswith(sentence)
    assert "larger card" in failure or "smaller model" in failure
    # With gradients: whole, halved, one pair, and one pair with activations computed twice.
    assert refused == ([4, 2, 1, 1] if trained else [16, 8, 4, 2, 1])


def needs_of(one: Bench) -> ModelNeeds:
    return ModelNeeds.of(read_configs(locate(one.settings.model)), size=(64, 64))


def test_a_small_memory_makes_a_frugal_round(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain, one = bench(), bench()
    assert plain.train() is Exit.DONE
    wanted = needs_of(one).training("float32", 1, 2, gradient_checkpointing=True).total
    monkeypatch.setattr(fitting, "free_memory", lambda device: int(wanted / MARGIN) + 1)
    monkeypatch.setattr(fitting, "memory_for", lambda pipeline: int(wanted / MARGIN) + 1)
    prepared: list[Any] = []
    whole = prepare.prepare

    def look(*args: Any) -> Any:
        prepared.append(whole(*args))
        return prepared[-1]

    monkeypatch.setattr(prepare, "prepare", look)
    caplog.set_level(logging.WARNING)
    assert one.train() is Exit.DONE
    trainer: Trainer = prepared[0].trainer
    assert trainer.batches.pairs_at_once == 1
    assert trainer.policy.pipeline.unet.is_gradient_checkpointing
    assert trainer.policy.at_once.most is not None
    said = [record.getMessage() for record in caplog.records]
    frugal = (
        "Memory is small here, so the round takes 1 pair at once, in slower steps that need less."
    )
    assert frugal in said
    assert_same_round(one, plain)


def test_a_round_that_cannot_fit_loads_nothing(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = bench()
    monkeypatch.setattr(fitting, "free_memory", lambda device: 2**20)
    monkeypatch.setattr(prepare, "load_pipeline", lambda *args, **kwargs: pytest.fail("loaded"))
    assert one.train() is Exit.FAILED
    failure = one.round().failure or ""
    assert failure.startswith(
        "A round needs about 0.6 GB and 0.0 GB are free: close other programs"
    )


def test_pieces_shrink_once_and_stay_small() -> None:
    sizes: list[int] = []

    def work(rows: slice) -> list[int]:
        sizes.append(rows.stop - rows.start)
        if sizes[-1] > 3:
            raise torch.OutOfMemoryError(REFUSED)
        return list(range(10))[rows]

    at_once, told = AtOnce(), []
    at_once.tell = told.append
    found = at_once.over(10, work, torch.device("cpu"))
    assert [number for part in found for number in part] == list(range(10))
    assert sizes == [10, 5, 2, 2, 2, 2, 2]
    assert at_once.most == 2
    assert len(told) == 2


def test_other_errors_stay_what_they_are() -> None:
    def work(rows: slice) -> list[int]:
        raise next(problems)

    at_once, cpu = AtOnce(), torch.device("cpu")
    problems = iter([ValueError("another"), MemoryError(), MemoryError()])
    with pytest.raises(ValueError, match="another"):
        at_once.over(2, work, cpu)
    with pytest.raises(OutOfMemory, match="smaller model"):
        at_once.over(2, work, cpu)
