"""A round as a job, with a stand-in for the training process."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select

from inpo_studio.engine import JobStatus
from inpo_studio.jobs import rounds, trainer
from inpo_studio.jobs.pictures import Painter
from inpo_studio.jobs.pipelines import Pipelines
from inpo_studio.jobs.upkeep import sweep_rounds
from inpo_studio.jobs.worker import embedded_worker
from inpo_studio.studio import Studio
from inpo_studio.studio.align.rounds import round_log, round_status
from storage.errors import DatabaseAway, StaleAttempt
from storage.prompts import add_prompts
from storage.rounds import (
    claim_attempt,
    create_round,
    get_round,
    request,
    resume,
    round_pairs,
    set_state,
)
from storage.schema import Comparison, Round
from tests.jobs.support import MODEL, fake_paint, fake_pipeline, wait_for, with_choices

START = """
import os, signal, sys, time
from inpo_studio.processes import watch_lifeline
from inpo_studio.settings import load_settings
from storage.adapters import add_adapter
from storage.engines import open_database
from storage.rounds import get_round, update_progress
watch_lifeline()
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
settings = load_settings({"workspace": options["--workspace"]})
round_id, attempt = options["--round"], int(options["--attempt"])
database = open_database(settings.database_url)

def step(number):
    with database.write() as session:
        update_progress(session, round_id, attempt, stage="train", step=number, total_steps=10)

def wish():
    with database.read() as session:
        return get_round(session, round_id).requested

def keep():
    (settings.workspace / "adapters" / round_id).mkdir(parents=True, exist_ok=True)
    with database.write() as session:
        add_adapter(session, sha256="a" * 64, folder=f"adapters/{round_id}", model="postcards",
                    rank=2, alpha=2.0, step=10, round_id=round_id, attempt=attempt)
"""
FINE = "step(10); keep()"
UNTIL_ASKED = """
print("up", flush=True)
for number in range(2000):
    step(number + 1)
    if wish():
        sys.exit({"pause": 3, "cancel": 4, "finish": keep() or 0}[wish()])
    time.sleep(0.02)
"""


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns a function that sets what the stand-in for training does."""
    arguments = trainer.command

    def set_code(code: str) -> None:
        def command(*args: Any) -> list[str]:
            return [sys.executable, "-c", START + code, *arguments(*args)[3:]]

        monkeypatch.setattr(trainer, "command", command)

    return set_code


def row_of(studio: Studio, round_id: str) -> Round:
    with studio.database.read() as session:
        return get_round(session, round_id)


def begin(studio: Studio, made: Round) -> str:
    assert made.job_id is not None
    return studio.engine.enqueue("round", {"round_id": made.id}, made.job_id)


def finish(studio: Studio, made: Round) -> tuple[JobStatus, Round]:
    job_id = begin(studio, made)
    with embedded_worker(studio.settings):
        status = studio.engine.wait(job_id, timeout_s=60)
    return status, row_of(studio, made.id)


def test_a_round_freezes_trains_and_is_done(studio: Studio, training: Any) -> None:
    training(FINE)
    made = with_choices(studio)
    status, row = finish(studio, made)
    assert (status.state, status.result["state"], row.state) == ("done", "done", "done")
    assert row.adapter_id is not None
    assert row.ended_at is not None
    with studio.database.read() as session:
        assert len(round_pairs(session, made.id)) == 4


def test_samples_are_drawn_on_held_out_prompts(
    studio: Studio, training: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Painter, "paint", fake_paint)
    monkeypatch.setattr(Pipelines, "get", fake_pipeline)
    training(FINE)
    made = with_choices(studio)
    with studio.database.write() as session:
        add_prompts(session, [f"a sea {i}" for i in range(6)], source="comparison", kind="compare")
    _, row = finish(studio, made)
    with studio.database.read() as session:
        drawn = list(session.scalars(select(Comparison)))
    assert (row.state, row.stage, len(drawn)) == ("done", "render", 4)
    assert {comparison.prompt.split for comparison in drawn} == {"held_out"}
    assert {comparison.base_image.steps for comparison in drawn} == {2}, "as the pairs were made"


def test_a_round_is_done_even_if_its_samples_cannot_be_drawn(
    studio: Studio, training: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, model: str) -> Any:
        raise ValueError("no such model")

    monkeypatch.setattr(Pipelines, "get", broken)
    training(FINE)
    made = with_choices(studio)
    with studio.database.write() as session:
        add_prompts(session, ["a sea"], source="comparison", kind="compare")
    assert finish(studio, made)[1].state == "done"


def test_a_round_without_choices_fails_in_a_sentence(studio: Studio, training: Any) -> None:
    training(FINE)
    with studio.database.write() as session:
        made = create_round(session, model=MODEL, config={}, seed=0)
        made.job_id = f"round-{made.id}-1"
    status, row = finish(studio, made)
    assert (status.state, row.state) == ("failed", "failed")
    assert row.failure == status.error
    assert "no choice to learn from" in (row.failure or "")


@pytest.mark.parametrize(
    ("what", "state"), [("pause", "paused"), ("cancel", "cancelled"), ("finish", "done")]
)
def test_a_wish_is_passed_on_and_told(studio: Studio, training: Any, what: Any, state: str) -> None:
    training(UNTIL_ASKED)
    made = with_choices(studio)
    job_id = begin(studio, made)
    with embedded_worker(studio.settings):
        wait_for(lambda: row_of(studio, made.id).step > 2, 20)
        with studio.database.write() as session:
            request(session, made.id, what)
        status = studio.engine.wait(job_id, timeout_s=20)
    row = row_of(studio, made.id)
    assert (row.state, row.requested, status.result["state"]) == (state, None, state)


def test_a_paused_round_goes_on_as_a_new_job(studio: Studio, training: Any) -> None:
    made = with_choices(studio)
    training("step(4); sys.exit(3)")
    with studio.database.write() as session:
        set_state(session, made.id, "running")
        request(session, made.id, "pause")
    assert finish(studio, made)[1].state == "paused"
    with studio.database.write() as session:
        resumed = resume(session, made.id, job_id=f"round-{made.id}-2")
    training(FINE)
    status, row = finish(studio, resumed)
    assert (status.state, row.state) == ("done", "done")
    assert row.attempt > made.attempt + 1


def test_a_round_that_was_queued_anew_is_left_to_its_new_job(studio: Studio, training: Any) -> None:
    training(FINE)
    made = with_choices(studio)
    old = begin(studio, made)
    with studio.database.write() as session:
        request(session, made.id, "pause")
        resumed = resume(session, made.id, job_id=f"round-{made.id}-2")
    new = begin(studio, resumed)
    with embedded_worker(studio.settings):
        assert studio.engine.wait(old, timeout_s=20).result["state"] == rounds.PASSED_ON
        assert studio.engine.wait(new, timeout_s=60).result["state"] == "done"
    assert row_of(studio, made.id).attempt == 2


def test_a_run_that_was_taken_over_changes_no_state(studio: Studio) -> None:
    made = with_choices(studio)
    context: Any = SimpleNamespace(database=studio.database, job_id=made.job_id)
    this = rounds._Run(context, made.id)
    with studio.database.write() as session:
        this.attempt = claim_attempt(session, made.id)
        claim_attempt(session, made.id)
    with pytest.raises(StaleAttempt):
        rounds._set(this, "done")
    rounds._fail(this, "It has dried.")
    context.job_id = "another"
    rounds._cancel(this)
    assert row_of(studio, made.id).state == "running"


def test_a_database_that_is_away_for_a_moment_ends_no_training(
    studio: Studio, training: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Any] = []
    look = rounds._look

    def troubled(*asked: Any) -> None:
        looks.append(asked)
        if len(looks) < 4:
            raise DatabaseAway("The database cannot be reached.")
        look(*asked)

    monkeypatch.setattr(rounds, "_look", troubled)
    training("step(1); time.sleep(2.0); step(10); keep()")
    status, row = finish(studio, with_choices(studio))
    assert (status.state, row.state, row.attempt) == ("done", "done", 2)
    assert len(looks) >= 4


def test_cancelling_the_job_stops_the_training_and_the_round(studio: Studio, training: Any) -> None:
    training("print('up', flush=True); step(1); time.sleep(60)")
    made = with_choices(studio)
    job_id = begin(studio, made)
    with embedded_worker(studio.settings):
        wait_for(lambda: row_of(studio, made.id).step == 1, 20)
        studio.engine.cancel(job_id)
        wait_for(lambda: row_of(studio, made.id).state == "cancelled", 5)


@pytest.mark.slow
def test_a_training_that_dies_goes_on_as_long_as_it_gets_further(
    studio: Studio, training: Any
) -> None:
    training(
        "step(attempt)\n"
        "if attempt < 4: os.kill(os.getpid(), signal.SIGKILL)\n"  # attempts 2, 3, then 4
        "keep()"
    )
    status, row = finish(studio, with_choices(studio))
    assert (status.state, row.state, row.attempt) == ("done", "done", 4)


@pytest.mark.slow
def test_a_training_that_dies_too_often_fails_in_a_sentence_and_its_log_tells(
    studio: Studio, training: Any
) -> None:
    training("step(attempt); print('no more paint\\n'); sys.exit(9)")
    status, row = finish(studio, with_choices(studio))
    assert (status.state, row.state, row.attempt) == ("failed", "failed", 4)
    assert (row.failure or "").startswith("The training ended by itself with exit code 9;")
    assert round_log(studio, row.id) == ["no more paint"] * 3
    assert status.error == row.failure


def test_a_training_that_dies_without_getting_further_is_not_started_again(
    studio: Studio, training: Any
) -> None:
    training("os.kill(os.getpid(), signal.SIGSEGV)")
    _, row = finish(studio, with_choices(studio))
    assert (row.state, row.attempt) == ("failed", 2)
    assert "signal 11 (SIGSEGV)" in (row.failure or "")


def test_a_training_ended_for_want_of_memory_says_so(
    studio: Studio, training: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([5, *[6] * 50])
    monkeypatch.setattr(trainer, "_out_of_memory_kills", lambda: next(counts))
    training("os.kill(os.getpid(), signal.SIGKILL)")
    _, row = finish(studio, with_choices(studio))
    assert "because memory ran out" in (row.failure or "")


def test_an_orderly_failure_is_told_as_it_was_written(studio: Studio, training: Any) -> None:
    training(
        "from storage.rounds import set_state\n"
        "with database.write() as session:\n"
        "    set_state(session, round_id, 'failed', attempt=attempt, failure='It has dried.')\n"
        "sys.exit(5)"
    )
    _, row = finish(studio, with_choices(studio))
    assert (row.state, row.failure) == ("failed", "It has dried.")


def test_a_failure_that_left_no_sentence_points_to_its_log(studio: Studio, training: Any) -> None:
    training("print('the paint has dried'); sys.exit(5)")
    _, row = finish(studio, with_choices(studio))
    assert row.failure == "The training failed; the end of its log says more."
    assert round_log(studio, row.id, 1) == ["the paint has dried"]
    assert round_log(studio, "unknown") == []


def test_a_training_that_was_told_to_end_goes_on(studio: Studio, training: Any) -> None:
    training("step(attempt)\nif attempt < 3: sys.exit(6)\nkeep()")
    status, row = finish(studio, with_choices(studio))
    assert (status.state, row.state, row.attempt) == ("done", "done", 3)


@pytest.mark.parametrize("end", ["sys.exit(6)", "os.kill(os.getpid(), signal.SIGTERM)"])
def test_a_training_that_ends_because_the_system_shuts_down_is_handed_back(
    studio: Studio, training: Any, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    training(f"step(1)\ntime.sleep(1.0)\n{end}")
    monkeypatch.setattr(rounds, "LEFT_WAIT_S", 20.0)
    made = with_choices(studio)
    job_id = begin(studio, made)
    with embedded_worker(studio.settings):
        wait_for(lambda: row_of(studio, made.id).step == 1, 20)
        time.sleep(1.5)
    assert studio.engine.status(job_id).state == "queued"
    row = row_of(studio, made.id)
    assert (row.state, row.attempt, row.failure) == ("running", 2, None)


def test_what_a_training_waits_for_stays_told(studio: Studio, training: Any) -> None:
    training(
        "from storage.progress import set_progress\n"
        "with database.write() as session:\n"
        "    job = get_round(session, round_id).job_id\n"
        "    set_progress(session, job, kind='round', done=0, total=10, note='Waiting: busy.')\n"
        "time.sleep(60)"
    )
    made = with_choices(studio)
    job_id = begin(studio, made)

    def note() -> str:
        return round_status(studio, made.id).note

    with embedded_worker(studio.settings):
        wait_for(lambda: note() == "Waiting: busy.", 20)
        time.sleep(2 * rounds.PROGRESS_EVERY_S)
        assert note() == "Waiting: busy."
        studio.engine.cancel(job_id)
        wait_for(lambda: row_of(studio, made.id).state == "cancelled", 5)


def test_what_ended_rounds_need_no_more_is_removed(studio: Studio) -> None:
    over, open_ = with_choices(studio), with_choices(studio)
    with studio.database.write() as session:
        request(session, over.id, "cancel")
        request(session, open_.id, "pause")
    folder = studio.settings.workspace / "rounds"
    for name in (over.id, open_.id, "unknown"):
        for part in ("checkpoints/checkpoint-000020", "adapters/000020", "adapters/.000040.9.tmp"):
            (folder / name / part).mkdir(parents=True)
            (folder / name / part / "file").touch()
    sweep_rounds(studio.database, studio.settings.workspace)
    assert [path.name for path in (folder / over.id).iterdir()] == ["adapters"]
    assert [path.name for path in (folder / over.id / "adapters").iterdir()] == ["000020"]
    for name in (open_.id, "unknown"):
        assert len(list((folder / name).rglob("file"))) == 3
    assert sweep_rounds(studio.database, studio.settings.workspace) == []


def test_a_worker_that_stops_takes_its_training_along_and_the_next_goes_on(
    studio: Studio, training: Any
) -> None:
    made = with_choices(studio)
    training("print('up', flush=True); step(1); time.sleep(60)")
    job_id = begin(studio, made)
    with embedded_worker(studio.settings):
        wait_for(lambda: row_of(studio, made.id).step == 1, 20)
    assert studio.engine.status(job_id).state == "queued"
    assert row_of(studio, made.id).state == "running"
    training(FINE)
    assert finish(studio, made)[1].state == "done"


def test_rounds_whose_job_was_lost_are_put_right(studio: Studio, training: Any) -> None:
    training(FINE)
    unqueued, lost = with_choices(studio), None
    with studio.database.write() as session:
        lost = create_round(session, model=MODEL, config={}, seed=0, job_id="gone")
        set_state(session, lost.id, "running")
    with embedded_worker(studio.settings):
        wait_for(lambda: row_of(studio, unqueued.id).state == "done", 20)
        wait_for(lambda: row_of(studio, lost.id).state == "failed", 5)
    assert "resume" in (row_of(studio, lost.id).failure or "")


def test_a_queued_round_whose_job_is_cancelled_is_cancelled(studio: Studio) -> None:
    made = with_choices(studio)
    studio.engine.cancel(begin(studio, made))
    with embedded_worker(studio.settings):
        wait_for(lambda: row_of(studio, made.id).state == "cancelled", 5)
