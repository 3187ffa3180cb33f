"""A round's training from its row to its adapter, in this process, on a tiny model."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion.adapters import WEIGHTS_FILE
from inpo_studio.processes import device_lock
from inpo_studio.settings import Settings
from inpo_studio.studio import Studio, open_studio
from inpo_studio.studio.align.rounds import round_status
from inpo_studio.training.inputs import read_inputs
from inpo_studio.training.leaving import Leaving
from inpo_studio.training.ledger import Ledger
from inpo_studio.training.round import Exit, train_round
from inpo_studio.training.samples import Sampler
from storage.adapters import list_adapters
from storage.frozen import freeze_choices
from storage.metrics import list_metrics
from storage.progress import get_progress
from storage.prompts import add_prompts
from storage.rounds import IMPORTED, claim_attempt, get_round, request, resume, set_state
from storage.samples import list_samples
from storage.schema import Adapter, Round, Sample
from storage.timings import machine_name, read_timings
from tests.jobs.support import wait_for
from tests.labelled import ROUND, queued_round
from tests.training.conftest import small_config


@pytest.fixture(autouse=True)
def own_threads_and_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("INPO_STUDIO_LOCK_DIR", str(tmp_path / "locks"))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


class Bench:
    """A workspace with one queued round, and what is asked of it here."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.studio: Studio = open_studio(settings)

    def train(self) -> Exit:
        with self.studio.database.write() as session:
            freeze_choices(session, ROUND)
            attempt = claim_attempt(session, ROUND)
        return train_round(self.settings, ROUND, attempt, Leaving(int(Exit.LEFT)))

    def round(self) -> Round:
        with self.studio.database.read() as session:
            return get_round(session, ROUND)

    def samples(self) -> list[Sample]:
        with self.studio.database.read() as session:
            return list_samples(session, ROUND)

    def adapters(self) -> list[Adapter]:
        with self.studio.database.read() as session:
            return list_adapters(session, round_id=ROUND)

    def steps(self) -> list[int]:
        with self.studio.database.read() as session:
            return [metric.step for metric in list_metrics(session, ROUND)]

    def weights(self, adapter: Adapter) -> dict[str, torch.Tensor]:
        return load_file(self.settings.workspace / adapter.folder / WEIGHTS_FILE)


@pytest.fixture
def bench(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Iterator[Callable[..., Bench]]:
    """bench(**changes of the configuration) -> a workspace with a queued round."""
    made: list[Bench] = []

    def make(**changes: object) -> Bench:
        few: dict[str, object] = {"sample_every": 2, "sample_prompts": 2, "threads": 1}
        config: RoundConfig = small_config(**few | changes)
        folder = tmp_path / f"workspace-{len(made)}"
        made.append(Bench(queued_round(folder, str(tiny_model("sd15")), config)))
        return made[-1]

    yield make
    for one in made:
        one.studio.close()


@pytest.mark.parametrize(("of_round", "of_workspace", "threads"), [(0, 0, 2), (0, 3, 3), (1, 3, 1)])
def test_a_round_leaves_a_core_unless_told_its_threads(
    bench: Callable[..., Bench],
    of_round: int,
    of_workspace: int,
    threads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("inpo_studio.machine.physical_cores", lambda: 3)
    one = bench(threads=of_round, steps=1)
    one.settings = replace(one.settings, threads=of_workspace)
    assert one.train() is Exit.DONE
    assert torch.get_num_threads() == threads


def test_a_round_leaves_samples_and_snapshots(bench: Callable[..., Bench]) -> None:
    one = bench()
    with one.studio.database.write() as session:
        add_prompts(session, ["an unseen sea"], source="comparison", kind="compare")
    assert one.train() is Exit.DONE
    row, samples, adapters = one.round(), one.samples(), one.adapters()
    assert [(s.step, s.position) for s in samples] == [(n, p) for n in (0, 2, 4) for p in (0, 1)]
    assert len({(s.prompt_id, s.seed) for s in samples}) == 2
    assert [s.prompt.split for s in samples[:2]] == ["validation", "train"]
    assert all(one.studio.files.image_path(s.sha256).is_file() for s in samples)
    assert (samples[0].width, samples[0].height) == (64, 64)
    assert [adapter.step for adapter in adapters] == [2, 4]
    assert row.adapter_id == adapters[-1].id
    assert adapters[0].folder == f"rounds/{ROUND}/adapters/000002"
    early, late = (one.weights(adapter) for adapter in adapters)
    assert any(not torch.equal(early[name], late[name]) for name in early)
    assert (one.settings.workspace / "rounds" / ROUND / "checkpoints").is_dir()


def test_the_users_own_prompts_are_drawn_first(bench: Callable[..., Bench]) -> None:
    one = bench(steps=1)
    with one.studio.database.write() as session:
        add_prompts(session, [f"a starter {i}" for i in range(30)], source="starter")
        add_prompts(session, [f"a late wish {i}" for i in range(10)], source="own")
    one.train()
    drawn = [(s.prompt.split, s.prompt.source) for s in one.samples() if s.step == 0]
    assert drawn == [("validation", "own")] * 2


def test_samples_on_top_of_an_imported_adapter_are_drawn_as_that_is(
    bench: Callable[..., Bench],
) -> None:
    one = bench()

    def side() -> str:
        with one.studio.database.read() as session:
            plan = read_inputs(session, one.settings, ROUND).samples
        assert plan is not None
        return plan.generation.adapter_on

    with one.studio.database.write() as session:
        freeze_choices(session, ROUND)
    assert side() == "prompt"
    with one.studio.database.write() as session:
        get_round(session, ROUND).selection = {IMPORTED: {"name": "style"}}
    assert side() == "both"


@pytest.mark.parametrize("changes", [{"sample_prompts": 0}, {"sample_every": 0}])
def test_a_round_without_samples(bench: Callable[..., Bench], changes: dict[str, int]) -> None:
    one = bench()
    with one.studio.database.write() as session:
        row = get_round(session, ROUND)
        row.config = {**row.config, **changes}
    assert one.train() is Exit.DONE
    assert one.samples() == []
    assert [a.step for a in one.adapters()] == ([2, 4] if "sample_prompts" in changes else [4])


def test_samples_that_cannot_be_drawn_cost_nothing_else(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Sampler, on_step: object) -> None:
        raise FloatingPointError("not a number")

    plain, other = bench(), bench()
    assert plain.train() is Exit.DONE
    monkeypatch.setattr(Sampler, "draw", broken)
    assert other.train() is Exit.DONE
    assert other.samples() == []
    assert [a.sha256 for a in other.adapters()] == [a.sha256 for a in plain.adapters()]


def test_a_wish_to_pause_puts_the_samples_off(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, one = bench(), bench()
    plain.train()
    keep_snapshot = Ledger.keep_snapshot

    def keep_and_pause(self: Ledger, trainer: object) -> None:
        keep_snapshot(self, trainer)  # type: ignore[arg-type]
        with self.database.write() as session:
            request(session, ROUND, "pause")

    monkeypatch.setattr(Ledger, "keep_snapshot", keep_and_pause)
    assert one.train() is Exit.PAUSED
    assert {s.step for s in one.samples()} == {0}
    with one.studio.database.write() as session:
        set_state(session, ROUND, "paused")
        resume(session, ROUND)
    monkeypatch.setattr(Ledger, "keep_snapshot", keep_snapshot)
    assert one.train() is Exit.DONE
    assert one.steps() == [1, 2, 3, 4]
    assert [(s.step, s.sha256) for s in one.samples()] == [
        (s.step, s.sha256) for s in plain.samples()
    ]
    assert one.adapters()[-1].sha256 == plain.adapters()[-1].sha256


def test_a_round_that_goes_back_forgets_what_lay_beyond(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies at step 5 of 6 with its last checkpoint at step 3 and a snapshot at 4."""
    plain = bench(steps=6, checkpoint_every=3)
    plain.train()
    one = bench(steps=6, checkpoint_every=3)
    on_step = Ledger.on_step

    def die(self: Ledger, record: object) -> None:
        on_step(self, record)  # type: ignore[arg-type]
        self.flush()
        if record.step == 5:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "on_step", die)
    with pytest.raises(KeyboardInterrupt):
        one.train()
    assert [adapter.step for adapter in one.adapters()] == [2, 4]
    folders = one.settings.workspace / "rounds" / ROUND / "adapters"
    monkeypatch.setattr(Ledger, "on_step", on_step)
    start_at = Ledger.start_at

    def look(self: Ledger, step: int, total_steps: int) -> None:
        start_at(self, step, total_steps)
        assert step == 3
        assert [adapter.step for adapter in one.adapters()] == [2]
        assert {sample.step for sample in one.samples()} == {0, 2}
        assert sorted(path.name for path in folders.iterdir()) == ["000002"]

    monkeypatch.setattr(Ledger, "start_at", look)
    assert one.train() is Exit.DONE
    assert [(a.step, a.sha256) for a in one.adapters()] == [
        (a.step, a.sha256) for a in plain.adapters()
    ]


def test_a_round_says_what_it_waits_for_and_prepares(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = bench()
    told: list[str] = []
    before_training = Ledger.before_training

    def look(self: Ledger, sentence: str) -> None:
        self._told = ("", 0.0)
        before_training(self, sentence)
        with self.database.read() as session:
            progress = get_progress(session, "round-job")
        assert progress is not None
        told.append(progress.note)

    monkeypatch.setattr(Ledger, "before_training", look)
    one.train()
    assert told == [
        "Loading the model.",
        "Preparing the pictures: 0 of 24.",
        "Preparing the pictures: 16 of 24.",
        "Preparing the pictures: 24 of 24.",
    ]
    machine = machine_name("cpu", 1)
    noted = read_timings(one.settings.workspace / "rounds" / ROUND, machine)
    assert set(noted) == {"start_s", "picture_s", "samples_s"}
    assert all(seconds > 0 for seconds in noted.values())
    assert read_timings(one.settings.workspace / "rounds" / ROUND, "another machine") == {}


def test_a_round_that_waits_for_the_device_says_so(bench: Callable[..., Bench]) -> None:
    one = bench()
    ended: list[Exit] = []
    with device_lock("cpu"):
        thread = threading.Thread(target=lambda: ended.append(one.train()))
        thread.start()
        wait_for(lambda: round_status(one.studio, ROUND).note.startswith("Waiting: another"), 30)
        assert one.steps() == []
    thread.join()
    assert ended == [Exit.DONE]
    assert round_status(one.studio, ROUND).note == ""


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("Pick another size."), "Pick another size."),
        (RuntimeError("CUDA out of memory.\nTried"), "Memory ran out; use a smaller micro_batch"),
        (KeyError("x"), "The training failed (KeyError: 'x'); the end of its log says more."),
        (OSError(), "The training failed (OSError); the end of its log says more."),
    ],
)
def test_a_failure_is_one_sentence(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str
) -> None:
    def fail(self: Ledger) -> None:
        raise error

    one = bench()
    monkeypatch.setattr(Ledger, "inputs", fail)
    assert one.train() is Exit.FAILED
    failure = one.round().failure or ""
    assert failure.startswith(sentence)
    assert "\n" not in failure


@pytest.mark.parametrize("saves", [True, False])
def test_leaving_saves_whole_steps_only(monkeypatch: pytest.MonkeyPatch, saves: bool) -> None:
    ended: list[int] = []
    saved: list[int] = []

    def leave(code: int) -> None:
        ended.append(code)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr("inpo_studio.training.leaving.WAIT_FOR_STEP_S", 0.1)
    # the real one would end this process some seconds later
    monkeypatch.setattr(Leaving, "_end", lambda self, after_s: None)
    trainer = SimpleNamespace(whole=threading.RLock(), step=7)
    leaving = Leaving(6)
    leaving.saves(trainer, lambda: saved.append(trainer.step))  # type: ignore[arg-type]
    if not saves:
        trainer.whole.acquire()
    thread = threading.Thread(target=leaving.now)
    thread.start()
    thread.join()
    assert saved == ([7] if saves else [])
    assert ended == [6]
    assert leaving.asked.is_set()
