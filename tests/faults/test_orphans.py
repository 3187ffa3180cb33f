"""kill -9 of a parent: whatever it started is gone within 5 s."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from inpo_studio.processes import worker_runs
from inpo_studio.studio import Studio
from tests.faults.working import start
from tests.jobs.support import wait_for

WITHIN_S = 5.0

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")]


@pytest.mark.parametrize("killed", ["studio", "worker"])
def test_nothing_outlives_its_parent(
    studio: Studio,
    tmp_path: Path,
    killed: str,
) -> None:
    pid_file = tmp_path / "pid"
    log = tmp_path / "child.log"
    job_id = studio.engine.enqueue("with_child", {"pid": str(pid_file), "log": str(log)})
    web = start(studio.settings.workspace, "supervise")
    try:
        wait_for(lambda: log.exists() and "up" in log.read_text(), 90)
        training = int(pid_file.read_text())
        (worker,) = psutil.Process(web.pid).children()
        victims = {"studio": web.pid, "worker": worker.pid}
        os.kill(victims[killed], signal.SIGKILL)
        begun = time.monotonic()
        wait_for(lambda: gone(worker.pid) and gone(training), WITHIN_S)
        print(f"gone after {time.monotonic() - begun:.2f} s")
        if killed == "worker":
            old = log.read_text()
            wait_for(lambda: log.read_text() != old, 90, "the job in the next worker")
        else:
            web.wait()
            wait_for(lambda: not worker_runs(studio.settings.workspace), WITHIN_S)
            assert studio.engine.status(job_id).state in ("queued", "running")
    finally:
        web.terminate()
        web.wait(20)
    wait_for(lambda: not worker_runs(studio.settings.workspace), WITHIN_S)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
