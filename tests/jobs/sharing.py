"""One of several workers: `python -m tests.jobs.sharing WORKSPACE URL SLOT LEASE_S`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from inpo_studio.jobs import lease
from inpo_studio.jobs.context import JobContext
from inpo_studio.jobs.worker import run_worker
from inpo_studio.settings import Settings
from tests.jobs.support import count_up


def sign(context: JobContext, payload: dict[str, Any]) -> None:
    """Appends the job's id and the worker's process to a file."""
    time.sleep(0.1)
    with Path(payload["file"]).open("a", encoding="ascii") as file:
        file.write(f"{context.job_id} {os.getpid()}\n")


if __name__ == "__main__":
    workspace, url, slot, lease_s = sys.argv[1:]
    lease.LEASE_S = float(lease_s)
    settings = Settings(workspace=Path(workspace), database_url=url, device="cpu", threads=1)
    run_worker(settings, slot=int(slot), kinds={"sign": sign, "count": count_up})
