"""kill -9 of the worker: nothing is lost, nothing done twice, and nothing tried for ever."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy import func, select

from inpo_studio.processes import worker_runs
from inpo_studio.studio import Studio
from inpo_studio.supervisor import Supervisor
from storage.pairs import list_pairs
from storage.progress import get_progress
from storage.prompts import add_prompts
from storage.schema import Image
from tests.faults.working import command, start
from tests.jobs.support import GENERATION, MODEL, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")]


@contextmanager
def supervised(studio: Studio) -> Iterator[Supervisor]:
    with Supervisor(studio.settings, command=command(studio.settings.workspace)) as supervisor:
        yield supervisor


def done_items(studio: Studio, job_id: str) -> int:
    with studio.database.read() as session:
        row = get_progress(session, job_id)
    return 0 if row is None else row.done


def kill_when_further(studio: Studio, supervisor: Supervisor, job_id: str) -> None:
    before = done_items(studio, job_id)
    wait_for(lambda: done_items(studio, job_id) > before + random.randint(0, 2), 60)
    pid = supervisor.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: supervisor.pid not in (None, pid), 60)


def test_pairs_are_all_made_and_none_twice(studio: Studio) -> None:
    with studio.database.write() as session:
        prompts = [p.id for p in add_prompts(session, ["a hill", "a lake"], source="own")]
    payload = {
        "prompt_ids": prompts,
        "count": 40,
        "seed": 1,
        "generation": GENERATION.model_dump(),
        "model": MODEL,
    }
    job_id = studio.engine.enqueue("pairs", payload)
    with supervised(studio) as supervisor:
        for _ in range(6):  # more often than a job is tried that does not get any further
            kill_when_further(studio, supervisor, job_id)
        status = studio.engine.wait(job_id, timeout_s=120)
    assert (status.state, len(status.result["pair_ids"])) == ("done", 40)
    with studio.database.read() as session:
        made = list_pairs(session)
        images = session.scalar(select(func.count()).select_from(Image))
    assert sorted(pair.id for pair in made) == sorted(status.result["pair_ids"])
    assert images == 80
    for image in (image for pair in made for image in (pair.first_image, pair.second_image)):
        assert studio.files.image_path(image.sha256).is_file()


def test_a_job_that_ends_its_worker_is_given_up(
    studio: Studio,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("inpo_studio.supervisor.LONGEST_DELAY_S", 0.5)
    tries = tmp_path / "tries"
    job_id = studio.engine.enqueue("die", {"tries": str(tries)})
    behind = studio.engine.enqueue("count", {"items": 2, "item_s": 0})
    with supervised(studio):
        status = studio.engine.wait(job_id, timeout_s=180)
        assert studio.engine.wait(behind, timeout_s=60).state == "done"
    assert (status.state, tries.read_text()) == ("failed", "x" * 4)
    assert "given up" in (status.error or "")


def test_a_second_worker_is_refused_and_the_first_goes_on(
    studio: Studio,
    tmp_path: Path,
) -> None:
    with supervised(studio) as supervisor:
        wait_for(lambda: worker_runs(studio.settings.workspace), 60)
        second = start(studio.settings.workspace)
        assert second.wait(60) != 0
        assert f"already runs (process {supervisor.pid})" in (tmp_path / "started.log").read_text()
        job_id = studio.engine.enqueue("count", {"items": 2, "item_s": 0})
        assert studio.engine.wait(job_id, timeout_s=60).state == "done"


def test_closing_stops_the_worker_and_the_next_studio_goes_on(
    studio: Studio,
) -> None:
    job_id = studio.engine.enqueue("count", {"items": 60, "item_s": 0.05})
    with supervised(studio) as supervisor:
        wait_for(lambda: done_items(studio, job_id) > 3, 60)
        pid = supervisor.pid
    assert pid is not None
    assert not psutil.pid_exists(pid)
    assert studio.engine.status(job_id).state == "queued"
    with supervised(studio):
        assert studio.engine.wait(job_id, timeout_s=60).state == "done"


def test_the_second_studio_of_a_workspace_stands_by_and_takes_over(studio: Studio) -> None:
    log = studio.settings.logs / "worker-0.log"
    with supervised(studio) as first:
        wait_for(lambda: log.is_file() and "is ready" in log.read_text(encoding="utf-8"), 60)
        with supervised(studio) as second:
            time.sleep(3.0)
            assert second.pid is None
            assert "already runs" not in log.read_text(encoding="utf-8"), "tried, not stood by"
            first.close()
            wait_for(lambda: second.pid is not None, 30)
