"""Waiting for work, with a progress bar; doing it in this process where no worker is to do it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from inpo_studio.cli.console import Console, advance
from inpo_studio.jobs.worker import embedded_worker
from inpo_studio.processes import worker_runs
from inpo_studio.settings import Settings
from inpo_studio.studio import Studio
from inpo_studio.studio.errors import WorkError
from storage.progress import get_progress

_POLL_S = 0.1


def wait_until(
    settings: Settings,
    console: Console,
    at_end: Callable[[], bool],
    on_interrupt: Callable[[], None],
) -> None:
    """Call `at_end` until it says so, while a worker of the studio, or else our own, works.

    Where the settings leave the work to workers elsewhere, it only waits for them. Ctrl-C calls
    `on_interrupt`, which raises to leave; otherwise the waiting goes on.
    """
    with _worker(settings, console):
        while True:
            try:
                if at_end():
                    return
                time.sleep(_POLL_S)
            except KeyboardInterrupt:
                on_interrupt()


def _worker(settings: Settings, console: Console) -> contextlib.AbstractContextManager[None]:
    """See to it that there is a worker, unless another machine's is meant to do the work."""
    if not settings.worker:
        console.note("The work is left to workers elsewhere; this command waits for them.")
        return contextlib.nullcontext()
    if not worker_runs(settings.workspace):
        console.note("No studio is running here; this command does the work itself.")
    return embedded_worker(settings)


def wait_with_bar(studio: Studio, console: Console, job_id: str, unit: str) -> Any:
    """Wait for a job to end and return its result; Ctrl-C cancels it, keeping what is made.

    Raises WorkError with the job's failure.
    """
    with console.bar(f"{unit}s", unit) as bar:

        def at_end() -> bool:
            status = studio.engine.status(job_id)
            with studio.database.read() as session:
                seen = get_progress(session, job_id)
            if seen is not None:
                advance(bar, seen.done, seen.total, f"{unit}s")
            return status.finished

        def cancel() -> None:
            studio.engine.cancel(job_id)
            raise KeyboardInterrupt

        wait_until(studio.settings, console, at_end, cancel)
    status = studio.engine.status(job_id)
    if status.state != "done":
        raise WorkError(status.error or f"The work ended as {status.state}.")
    return status.result
