"""Keeps one worker process running beside the studio. Torch-free."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType

from inpo_studio.processes import WorkerRunning, spawn, stop, thread_environment, worker_lock
from inpo_studio.settings import Settings

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 10.0
STEADY_S = 60.0
"""A worker that lived this long is restarted without delay."""
STOP_GRACE_S = 4.0
STAND_BY_S = 2.0
"""Between looks at a slot that another studio's worker is in."""

log = logging.getLogger("inpo_studio.supervisor")


class Supervisor:
    """Starts a worker, restarts it when it dies, and stops it at the end; a context manager."""

    def __init__(
        self, settings: Settings, slot: int = 0, command: Sequence[str] | None = None
    ) -> None:
        """Remember what to run; `command` replaces the worker's own command line."""
        self._settings = settings
        self._slot = slot
        self._command = command or (
            sys.executable,
            "-m",
            "inpo_studio.jobs.worker",
            "--slot",
            str(slot),
        )
        self._closing = threading.Event()
        self._renewed = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the worker; None while there is none."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

    def start(self) -> None:
        """Start the worker and watch it in the background."""
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def renew(self, settings: Settings) -> None:
        """Go on with other settings: the worker hands back what it does and a new one starts."""
        self._settings = settings
        self._renewed.set()

    def close(self) -> None:
        """Stop the worker and all it started; returns when they are gone."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Supervisor:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def _watch(self) -> None:
        delay_s = FIRST_DELAY_S
        while not self._closing.is_set():
            self._stand_by()
            if self._closing.is_set():
                return
            begun = time.monotonic()
            try:
                code = self._run_one()
            except OSError as error:
                log.error("The worker cannot be started: %s", error)
                code = -1
            if self._closing.is_set():
                return
            if self._renewed.is_set():
                delay_s = FIRST_DELAY_S
                continue
            log.warning("The worker ended with exit code %s and is started again.", code)
            if time.monotonic() - begun > STEADY_S:
                delay_s = FIRST_DELAY_S
            self._closing.wait(delay_s)
            delay_s = min(LONGEST_DELAY_S, 2 * delay_s)

    def _stand_by(self) -> None:
        """Wait while the worker of another studio on this workspace does the work."""
        told = False
        while not self._closing.is_set():
            try:
                with worker_lock(self._settings.workspace, self._slot, wait_s=0):
                    return
            except WorkerRunning:
                if not told:
                    log.warning(
                        "Another studio's worker works on %s; this one takes over should it end.",
                        self._settings.workspace,
                    )
                told = True
            self._closing.wait(STAND_BY_S)

    def _run_one(self) -> int:
        self._renewed.clear()
        settings = self._settings
        child = spawn(
            self._command,
            log_path=settings.logs / f"worker-{self._slot}.log",
            env={**settings.to_environment(), **thread_environment(settings.threads)},
        )
        self._child = child
        try:
            while not (self._closing.is_set() or self._renewed.is_set()):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return child.wait(0.2)
            return 0
        finally:
            stop(child, STOP_GRACE_S)
