"""The engine on PostgreSQL, where the studio's tables and the jobs share one database."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import make_url

from inpo_studio.engine import Engine, EngineError
from inpo_studio.jobs.worker import embedded_worker
from inpo_studio.settings import Settings
from inpo_studio.studio import Studio, open_studio
from tests.jobs.support import add, count_up, settings_in, wait_for
from tests.jobs.test_worker import ENDLESS, done_items
from tests.storage.conftest import postgres_server
from tests.storage.postgres import execute_on_server

__all__ = ["postgres_server"]


@pytest.fixture
def shared(postgres_server: str, tmp_path: Path) -> Iterator[Studio]:
    name = f"jobs_{uuid4().hex}"
    execute_on_server(postgres_server, f"CREATE DATABASE {name}")
    url = make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
    workspace = tmp_path / "workspace"
    opened = open_studio(Settings(workspace=workspace, database_url=url, device="cpu", threads=1))
    yield opened
    opened.close()
    execute_on_server(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.slow
def test_jobs_are_done_cancelled_handed_back_and_forgotten(shared: Studio) -> None:
    engine, kinds = shared.engine, {"add": add, "count": count_up}
    assert shared.settings.jobs_url == shared.settings.database_url
    with embedded_worker(shared.settings, kinds=kinds):
        job_id = engine.enqueue("add", {"a": 1, "b": 2})
        assert engine.wait(job_id, timeout_s=30).result == {"sum": 3}
        cancelled = engine.enqueue("count", ENDLESS)
        wait_for(lambda: done_items(shared, cancelled) > 1, 30)
        engine.cancel(cancelled)
        going_on = engine.enqueue("count", {"items": 30, "item_s": 0.05})
        wait_for(lambda: done_items(shared, going_on) > 1, 30)
    assert engine.status(cancelled).state == "cancelled"
    assert engine.status(going_on).state == "queued"
    with embedded_worker(shared.settings, kinds=kinds):
        assert engine.wait(going_on, timeout_s=60).state == "done"
    engine.remember(going_on, note="kept")
    assert engine.status(going_on).attributes == {"kind": "count", "note": "kept"}
    assert engine.prune(older_than_s=-1) == 3


@contextmanager
def two_workers(shared: Studio, lease_s: float) -> Iterator[dict[int, subprocess.Popen[bytes]]]:
    """Two worker processes by their process ids; the names of their slots tell them apart, as those
    of machines would."""
    settings = shared.settings
    told = [str(settings.workspace), settings.database_url]
    log = settings.workspace.parent / "workers.log"
    with log.open("ab") as output:
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.jobs.sharing", *told, str(slot), str(lease_s)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            for slot in (0, 1)
        ]
    try:
        wait_for(lambda: log.read_text().count("is ready") == 2, 90, "both workers")
        yield {worker.pid: worker for worker in started}
    finally:
        for worker in started:
            worker.terminate()
        for worker in started:
            worker.wait(30)


@pytest.mark.slow
def test_two_workers_share_the_work_and_do_nothing_twice(shared: Studio, tmp_path: Path) -> None:
    signed = tmp_path / "signed"
    with two_workers(shared, lease_s=60.0) as workers:
        jobs = [shared.engine.enqueue("sign", {"file": str(signed)}) for _ in range(40)]
        for job_id in jobs:
            assert shared.engine.wait(job_id, timeout_s=120).state == "done"
    lines = [line.split() for line in signed.read_text().splitlines()]
    assert sorted(job_id for job_id, _ in lines) == sorted(jobs)
    done_by = Counter(int(pid) for _, pid in lines)
    print(f"jobs done by each: {sorted(done_by.values())}")
    assert set(done_by) == set(workers)
    assert min(done_by.values()) >= 5


@pytest.mark.slow
def test_the_job_of_a_worker_that_never_comes_back_is_done_by_the_other(shared: Studio) -> None:
    engine = shared.engine
    with two_workers(shared, lease_s=4.0) as workers:
        job_id = engine.enqueue("count", {"items": 60, "item_s": 0.1})
        wait_for(lambda: done_items(shared, job_id) > 5, 30)
        names = {f"{platform.node()}-{slot}": slot for slot in (0, 1)}
        (row,) = engine._client.list_workflows(workflow_ids=[job_id])
        working = list(workers.values())[names[str(row.executor_id)]]
        working.kill()
        begun = time.monotonic()
        done = done_items(shared, job_id)
        assert engine.wait(job_id, timeout_s=120).state == "done"
        print(f"killed at {done} of 60; done {time.monotonic() - begun:.1f} s later")
    assert done_items(shared, job_id) == 60


def test_a_server_that_is_away_is_said_so(tmp_path: Path) -> None:
    url = "postgresql://studio@127.0.0.1:9/studio?connect_timeout=2"
    engine = Engine(replace(settings_in(tmp_path), jobs_url=url))
    with pytest.raises(EngineError, match="database of the jobs cannot be used"):
        engine.prepare()
    engine.close()
