"""A worker process for the fault tests, with kinds of job that need no model.

`python -m tests.faults.working WORKSPACE` works; with `supervise` it is a studio's web process
instead, which does nothing but supervise such a worker.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from inpo_studio.jobs.context import JobContext
from inpo_studio.jobs.kinds import KINDS
from inpo_studio.jobs.pictures import Painter
from inpo_studio.jobs.pipelines import Pipelines
from inpo_studio.jobs.worker import run_worker
from inpo_studio.processes import spawn, stop
from inpo_studio.supervisor import Supervisor
from tests.jobs.support import count_up, fake_paint, fake_pipeline, settings_in

CHILD = """
from inpo_studio.processes import watch_lifeline
watch_lifeline()
print("up", flush=True)
while True: pass
"""


def die(context: JobContext, payload: dict[str, Any]) -> None:
    """Ends its worker each time it is tried."""
    with Path(payload["tries"]).open("a") as file:
        file.write("x")
    os.kill(os.getpid(), signal.SIGKILL)


def with_child(context: JobContext, payload: dict[str, Any]) -> None:
    """Holds a child of the worker, as a training is one."""
    child = spawn([sys.executable, "-c", CHILD], log_path=Path(payload["log"]))
    Path(payload["pid"]).write_text(str(child.pid))
    try:
        while child.poll() is None:
            context.checkpoint()
            time.sleep(0.05)
    finally:
        stop(child)


def slow_paint(painter: Any, prompts: Any, seeds: Any) -> Any:
    time.sleep(0.1)
    return fake_paint(painter, prompts, seeds)


def command(workspace: Path) -> list[str]:
    return [sys.executable, "-m", "tests.faults.working", str(workspace)]


def start(workspace: Path, *more: str) -> subprocess.Popen[bytes]:
    """A process as the user starts it: not on a lifeline."""
    log = workspace.parent / "started.log"
    with log.open("ab") as output:
        return subprocess.Popen(
            [*command(workspace), *more],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def main() -> None:
    settings = settings_in(Path(sys.argv[1]))
    if sys.argv[2:] == ["supervise"]:
        with Supervisor(settings, command=command(settings.workspace)):
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            while True:
                time.sleep(0.2)
    Painter.paint = slow_paint  # type: ignore[method-assign]
    Pipelines.get = fake_pipeline  # type: ignore[method-assign]
    kinds = {**KINDS, "count": count_up, "die": die, "with_child": with_child}
    run_worker(settings, kinds=kinds)


if __name__ == "__main__":
    main()
