"""Which workers are alive, where several share a workspace; jobs of one that is gone go on.

A worker that is started again takes its jobs up by itself. One whose machine never comes back
cannot: the others see that its file in the workspace stands still, and put its jobs back into the
queue. No clocks are compared: what counts is how long a file has not changed in the eyes of one
worker.
"""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path

from dbos import DBOS

from inpo_studio.engine import Engine

LEASE_S = 60.0
"""A worker whose file stands still for so long is taken for gone; it renews it every 2 s."""

log = logging.getLogger("inpo_studio.jobs")


class Lease:
    """One worker's sign of life, and its look at those of the others; used where DBOS runs."""

    def __init__(self, folder: Path, name: str, engine: Engine) -> None:
        """Keep the files of all workers in `folder`, this one's under `name`."""
        self._folder = folder
        self._name = name
        self._engine = engine
        self._beats = 0
        self._seen: dict[str, tuple[str, float]] = {}

    def renew(self) -> list[str]:
        """Give a sign of life; returns the jobs that were taken from workers without any."""
        self._beats += 1
        self._folder.mkdir(parents=True, exist_ok=True)
        sign = f"{time.time_ns()} {self._beats}"
        (self._folder / self._name).write_text(sign, encoding="ascii")
        rows = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        at_work = {row.workflow_id: str(row.executor_id or "") for row in rows}
        others = set(at_work.values()) - {self._name}
        self._seen = {name: seen for name, seen in self._seen.items() if name in others}
        gone = {name for name in others if self._stood_still(name) >= LEASE_S}
        taken = [job_id for job_id, name in at_work.items() if name in gone]
        for job_id in taken:
            log.warning("worker %s gives no sign of life; its job goes on", at_work[job_id])
        self._engine.hand_back(taken)
        return taken

    def _stood_still(self, name: str) -> float:
        """For how many seconds a worker's file has been as it is."""
        said = ""
        with contextlib.suppress(OSError, ValueError):
            said = (self._folder / name).read_text(encoding="ascii")
        before, since = self._seen.get(name, (None, 0.0))
        if said != before:
            since = time.monotonic()
            self._seen[name] = (said, since)
        return time.monotonic() - since
