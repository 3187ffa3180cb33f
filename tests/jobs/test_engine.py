"""The engine from outside: what it keeps, refuses and forgets."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from inpo_studio.engine import Engine, EngineError, executor_id
from inpo_studio.jobs.worker import embedded_worker
from inpo_studio.studio import Studio
from tests.jobs.support import add, settings_in


def test_preparing_twice_keeps_what_is_there(studio: Studio) -> None:
    job_id = studio.engine.enqueue("add", {"a": 1, "b": 2})
    again = Engine(studio.settings)
    again.prepare()
    assert again.status(job_id).state == "queued"
    again.close()


def test_an_id_is_enqueued_once(studio: Studio) -> None:
    assert studio.engine.enqueue("add", {"a": 1, "b": 2}, job_id="one") == "one"
    assert studio.engine.enqueue("add", {"a": 5, "b": 5}, job_id="one") == "one"
    with embedded_worker(studio.settings, kinds={"add": add}):
        assert studio.engine.wait("one", timeout_s=10).result == {"sum": 3}


def test_a_job_that_is_not_there(studio: Studio) -> None:
    assert studio.engine.find("nothing") is None
    with pytest.raises(EngineError, match="no job nothing"):
        studio.engine.status("nothing")


def test_waiting_ends_after_its_timeout(studio: Studio) -> None:
    job_id = studio.engine.enqueue("add", {"a": 1, "b": 2})
    with pytest.raises(TimeoutError):
        studio.engine.wait(job_id, timeout_s=0.2)


def test_a_queued_job_is_cancelled_at_once(studio: Studio) -> None:
    job_id = studio.engine.enqueue("add", {"a": 1, "b": 2})
    studio.engine.cancel(job_id)
    assert studio.engine.status(job_id).state == "cancelled"


def test_a_cancelled_job_is_not_handed_back(studio: Studio) -> None:
    job_id = studio.engine.enqueue("add", {"a": 1, "b": 2})
    studio.engine.cancel(job_id)
    studio.engine.hand_back([job_id])
    assert studio.engine.status(job_id).state == "cancelled"


def test_only_old_finished_jobs_are_forgotten(studio: Studio) -> None:
    with embedded_worker(studio.settings, kinds={"add": add}):
        done = studio.engine.enqueue("add", {"a": 1, "b": 2})
        studio.engine.wait(done, timeout_s=10)
    waiting = studio.engine.enqueue("add", {"a": 1, "b": 2})
    assert studio.engine.prune() == 0
    assert studio.engine.prune(older_than_s=-1) == 1
    assert studio.engine.find(done) is None
    assert studio.engine.status(waiting).state == "queued"


def test_a_file_that_is_no_database_is_said_so(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    (tmp_path / "jobs.db").write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(EngineError, match=r"jobs\.db cannot be read"):
        Engine(settings).prepare()


def test_pickled_rows_are_never_read(studio: Studio) -> None:
    job_id = studio.engine.enqueue("add", {"a": 1, "b": 2})
    connection = sqlite3.connect(studio.settings.workspace / "jobs.db")
    with connection:
        connection.execute(
            "UPDATE workflow_status SET serialization = 'py_pickle' WHERE workflow_uuid = ?",
            (job_id,),
        )
    connection.close()
    with pytest.raises(EngineError, match="could run code"):
        Engine(studio.settings).prepare()


def test_nothing_is_stored_as_a_pickle(studio: Studio) -> None:
    with embedded_worker(studio.settings, kinds={"add": add}):
        for payload in ({"a": 1, "b": 2}, {"a": 1}):
            studio.engine.wait(studio.engine.enqueue("add", payload), timeout_s=10)
    connection = sqlite3.connect(studio.settings.workspace / "jobs.db")
    used = {row[0] for row in connection.execute("SELECT serialization FROM workflow_status")}
    connection.close()
    assert used == {"portable_json"}


def test_workers_are_told_apart_by_slot_and_on_a_shared_database_by_host(tmp_path: Path) -> None:
    local = settings_in(tmp_path)
    shared = replace(local, jobs_url="postgresql://localhost/jobs")
    assert executor_id(local, 0) == "local-0"
    assert executor_id(local, 1) != executor_id(local, 0)
    assert not executor_id(shared, 0).startswith("local-")
