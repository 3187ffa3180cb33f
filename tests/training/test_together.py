"""A round trained by several processes: the result is that of one, and it ends like one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from inpo_studio.jobs import launching, trainer
from inpo_studio.jobs.trainer import train
from inpo_studio.settings import Settings
from inpo_studio.studio.logs import round_log_path
from inpo_studio.training.together import ALONE, Together, own_device
from storage.frozen import freeze_choices
from storage.metrics import list_metrics
from storage.rounds import claim_attempt, request, resume, set_state
from tests.labelled import ROUND, queued_round
from tests.training.conftest import small_config
from tests.training.test_round import Bench, own_threads_and_locks

__all__ = ["own_threads_and_locks"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def new_bench(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Iterator[Callable[..., Bench]]:
    """new_bench(processes, **changes of the configuration) -> a workspace with a queued round."""
    made: list[Bench] = []

    def make(processes: int, **changes: object) -> Bench:
        usual = {"sample_every": 3, "sample_prompts": 2, "threads": 1, "steps": 6}
        config = small_config(**{**usual, **changes})
        folder = tmp_path / f"workspace-{len(made)}"
        settings = queued_round(folder, str(tiny_model("sd15")), config)
        made.append(Bench(replace(settings, processes=processes)))
        return made[-1]

    yield make
    for one in made:
        one.studio.close()


def attempt(one: Bench) -> int:
    with one.studio.database.write() as session:
        freeze_choices(session, ROUND)
        return claim_attempt(session, ROUND)


def run(one: Bench, watch: Callable[[], None] = lambda: None) -> trainer.TrainerEnd:
    ended = train(one.settings, ROUND, attempt(one), watch)
    print(log_of(one)[-4000:])
    return ended


def assert_like(one: Bench, wanted: Bench) -> None:
    """Equal figures, weights and pictures. Two shares of two pairs add up without rounding."""
    assert losses(one) == losses(wanted)
    assert [(a.step, a.sha256) for a in one.adapters()] == [
        (a.step, a.sha256) for a in wanted.adapters()
    ]
    assert [(s.step, s.sha256) for s in one.samples()] == [
        (s.step, s.sha256) for s in wanted.samples()
    ]


def processes_of(one: Bench) -> list[psutil.Process]:
    """What runs for this workspace: launcher and processes of the round."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            at_work = str(one.settings.workspace) in process.cmdline()
            if at_work and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def log_of(one: Bench) -> str:
    return round_log_path(one.settings, ROUND).read_text(encoding="utf-8")


def losses(one: Bench) -> list[dict[str, float | None]]:
    names = (
        *("loss", "margin", "winner_error", "loser_error", "gradient_norm"),
        *("train_ranked_right", "validation_ranked_right", "validation_margin"),
    )
    with one.studio.database.read() as session:
        rows = list_metrics(session, ROUND)
        return [{name: getattr(row, name) for name in names} for row in rows]


# Seven pairs are shares of 3 and 4, whose sums are in another order than one process's; the usual
# beta and learning rate would make much of that.
@pytest.mark.parametrize(
    "changes",
    [
        {"batch_pairs": 7, "micro_batch_pairs": 1, "beta": 20.0, "learning_rate": 1e-4}
        | {"prompt_dropout": 0.5, "early_stop": 1},
        # One process has no pair in any step.
        {"batch_pairs": 1, "micro_batch_pairs": 1, "beta": 20.0, "learning_rate": 1e-4},
    ],
)
def test_two_processes_give_the_result_of_one(
    new_bench: Callable[..., Bench], changes: dict[str, object]
) -> None:
    one, two = new_bench(1, **changes), new_bench(2, **changes)
    assert run(one).ending == "done"
    assert run(two).ending == "done"
    differences = [0.0]
    for alone, together in zip(losses(one), losses(two), strict=True):
        for name, value in alone.items():
            other = together[name]
            assert (value is None) == (other is None), name
            if value is not None and other is not None:
                differences.append(abs(value - other) / max(1.0, abs(value)))
    print("largest difference of a figure", max(differences))
    assert len(losses(two)) == (6 if "early_stop" not in changes else one.round().step)
    assert max(differences) < 1e-5
    weights = [bench.weights(bench.adapters()[-1]) for bench in (one, two)]
    apart = max(float((weights[0][k] - weights[1][k]).abs().max()) for k in weights[0])
    print("largest difference of a weight", apart)
    assert apart < 1e-5
    assert [(s.step, s.position) for s in two.samples()] == [
        (s.step, s.position) for s in one.samples()
    ]
    assert [a.step for a in two.adapters()] == [a.step for a in one.adapters()]


def step_of(one: Bench) -> int:
    return one.round().step


def saved_step(one: Bench) -> int:
    folder = one.settings.workspace / "rounds" / ROUND / "checkpoints"
    return max((int(path.name[-6:]) for path in folder.glob("checkpoint-*")), default=0)


EVEN = {"steps": 40, "checkpoint_every": 1000, "micro_batch_pairs": 2, "sample_every": 10}


class _Enough(Exception):
    pass


@pytest.fixture
def troubled(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def make(trouble: str) -> None:
        monkeypatch.setattr(launching, "ROUND", "tests.training.troubled")
        monkeypatch.setenv("TROUBLE", trouble)

    return make


def test_stopped_in_every_way_it_goes_on_to_the_same_bytes(
    new_bench: Callable[..., Bench], troubled: Callable[[str], None]
) -> None:
    wanted, one = new_bench(1, **EVEN), new_bench(2, **EVEN)
    assert run(wanted).ending == "done"
    troubled("slow")

    def pause() -> None:
        if step_of(one) >= 4 and one.round().requested is None:
            with one.studio.database.write() as session:
                request(session, ROUND, "pause")

    assert run(one, pause).ending == "paused"
    paused = step_of(one)
    assert saved_step(one) == paused >= 4
    assert processes_of(one) == []
    with one.studio.database.write() as session:
        set_state(session, ROUND, "paused")
        resume(session, ROUND)

    def leave() -> None:
        if step_of(one) >= paused + 4:
            raise _Enough

    with pytest.raises(_Enough):
        run(one, leave)
    left = step_of(one)
    assert processes_of(one) == []
    assert saved_step(one) == left >= paused + 4

    def terminate() -> None:
        if step_of(one) >= left + 4:
            (launcher,) = (p for p in processes_of(one) if "torch.distributed.run" in p.cmdline())
            launcher.terminate()

    assert run(one, terminate).ending == "left"
    assert processes_of(one) == []
    assert EVEN["steps"] > saved_step(one) == step_of(one) >= left + 4
    assert run(one).ending == "done"
    assert_like(one, wanted)


def test_memory_that_runs_out_in_one_halves_all(
    new_bench: Callable[..., Bench], troubled: Callable[[str], None]
) -> None:
    small, one = new_bench(1, micro_batch_pairs=1, beta=20.0), new_bench(2, beta=20.0)
    troubled("memory")
    assert run(small).ending == "done"
    assert run(one).ending == "done"
    assert log_of(one).count("Memory ran out at 2 pairs at once; going on with 1.") == 2
    for left, right in zip(losses(one), losses(small), strict=True):
        assert left["loss"] == pytest.approx(right["loss"], abs=1e-5)


@pytest.mark.parametrize("trouble", ["failure", "death"])
def test_one_that_ends_ends_all(
    new_bench: Callable[..., Bench],
    troubled: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
) -> None:
    one = new_bench(2, checkpoint_every=1000)
    troubled(trouble)
    begun = time.monotonic()
    ended = run(one)
    print(f"{trouble}: {time.monotonic() - begun:.1f} s, {ended}")
    assert processes_of(one) == []
    if trouble == "failure":
        assert (ended.ending, one.round().state) == ("failed", "failed")
        assert one.round().failure == "This process has had enough; give it a rest."
        return
    assert ended.ending in ("died", "left")
    assert one.round().state == "running"
    assert saved_step(one) == 2
    monkeypatch.undo()
    assert run(one).ending == "done"
    assert one.steps() == [1, 2, 3, 4, 5, 6]


def test_the_launcher_for_cards_starts_them_as_well(
    new_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "_on_cpu", lambda device: False)
    two = new_bench(2, steps=2, sample_prompts=0)
    assert "accelerate.commands.launch" in launching.command(two.settings, ROUND, 1, 2)
    assert run(two).ending == "done"
    assert two.steps() == [1, 2]


def test_shares_cover_everything_once() -> None:
    for size in (1, 2, 3, 5):
        rows = [row for rank in range(size) for row in Together(rank, size).share(4)]
        assert rows == [0, 1, 2, 3]
    assert ALONE.decide(lambda: "this") == "this"
    assert ALONE.all(True)
    assert not ALONE.all(False)


@pytest.mark.parametrize(
    ("device", "number", "found"),
    [
        ("auto", 1, "cuda:1"),
        ("cuda", 0, "cuda:0"),
        ("cpu", 1, "cpu"),
        ("cuda:1", 0, "cannot train on the device cuda:1: use --device cuda or cpu, or"),
        ("cuda", 2, "3 processes need as many cards, and this machine has 2; use --processes 2."),
    ],
)
def test_every_process_has_a_card_of_its_own(
    monkeypatch: pytest.MonkeyPatch, device: str, number: int, found: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert own_device(device) == device
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", str(number))
    if " " not in found:
        assert own_device(device) == found
        return
    with pytest.raises(ValueError, match=r"Several|processes") as refused:
        own_device(device)
    assert found in str(refused.value)


def test_what_a_training_is_started_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(workspace=tmp_path, device="cuda", threads=8, processes=2)
    words = launching.command(settings, ROUND, 1, 2, tmp_path / "ending")
    at = words.index("--config_file")
    assert Path(words[at + 1]).is_file()
    assert words[words.index("--num_processes") + 1] == "2"
    assert launching.environment(settings, 2)["OMP_NUM_THREADS"] == "4"
    assert launching.environment(settings, 1)["WORLD_SIZE"] == "1"
    assert "accelerate.commands.launch" not in launching.command(settings, ROUND, 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert launching.processes_of(replace(settings, processes=0)) == 3
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert launching.processes_of(replace(settings, processes=0)) == 1
