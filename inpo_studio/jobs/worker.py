"""The worker: takes jobs from the engine's queue and does them.

It runs as a process of its own, or inside a command where no other worker runs. It imports
torch only when a job needs it.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping

from inpo_studio.jobs.executor import STOP_GRACE_S, Executor
from inpo_studio.jobs.kinds import KINDS, Kind
from inpo_studio.processes import WorkerRunning, step_back, watch_lifeline, worker_lock
from inpo_studio.settings import Settings, load_settings

SLOT_TAKEN = 76
"""Exit code of a worker process that finds another one in its slot."""
NICENESS = 5
"""How far a worker steps back for the pages on a busy machine; its trainings go further."""
LOG_FORMAT = "%(asctime)s %(name)s %(message)s"

log = logging.getLogger("inpo_studio.jobs")


def run_worker(settings: Settings, slot: int = 0, kinds: Mapping[str, Kind] = KINDS) -> None:
    """Work until the parent closes the lifeline or the process is told to end.

    Ends the process. Raises WorkerRunning when another worker is in this slot.
    """
    stopping = threading.Event()
    watch_lifeline(on_lost=stopping.set, grace_s=STOP_GRACE_S + 2.0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    with worker_lock(settings.workspace, slot):
        executor = Executor(settings, slot, kinds, keeps_ready=True)
        executor.start()
        log.info("worker %d of %s is ready", slot, settings.workspace)
        while not stopping.wait(1.0):  # a bounded wait lets signals through on every platform
            pass
        executor.stop()
        log.info("worker %d has stopped", slot)
        logging.shutdown()
        # A thread deep in a model's forward would keep the interpreter from ending.
        os._exit(0)


@contextlib.contextmanager
def embedded_worker(
    settings: Settings, slot: int = 0, kinds: Mapping[str, Kind] = KINDS
) -> Iterator[None]:
    """See to it that a worker works on the workspace while the block runs.

    Where another process is that worker, it is left to it, and taken over should it end.
    """
    with _log_to_file(settings, slot):
        yield from _embedded(settings, slot, kinds)


def _embedded(settings: Settings, slot: int, kinds: Mapping[str, Kind]) -> Iterator[None]:
    ending = threading.Event()
    begun = threading.Event()
    problems: list[Exception] = []

    def work() -> None:
        while not ending.is_set():
            try:
                with worker_lock(settings.workspace, slot, wait_s=0.1):
                    executor = Executor(settings, slot, kinds)
                    executor.start()
                    begun.set()
                    ending.wait()
                    executor.stop()
            except WorkerRunning:
                begun.set()
                ending.wait(0.5)
            except Exception as error:
                problems.append(error)
                begun.set()
                return

    thread = threading.Thread(target=work, name="worker", daemon=True)
    thread.start()
    begun.wait()
    try:
        if problems:
            raise problems[0]
        yield
    finally:
        ending.set()
        thread.join()


@contextlib.contextmanager
def _log_to_file(settings: Settings, slot: int) -> Iterator[None]:
    """The terminal belongs to the command: what the worker has to say goes into its log."""
    settings.logs.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(settings.logs / f"worker-{slot}.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    loggers = [logging.getLogger(name) for name in ("inpo_studio", "dbos")]
    before = [(logger.propagate, logger.level) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    loggers[0].setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, (propagate, level) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.propagate = propagate
            logger.setLevel(level)
        handler.close()


def main(arguments: list[str] | None = None) -> int:
    """Run the worker that the supervisor starts; settings come from the environment."""
    parser = argparse.ArgumentParser(description="Work on the jobs of a workspace.")
    parser.add_argument("--slot", type=int, default=0)
    options = parser.parse_args(arguments)
    step_back(NICENESS)
    try:
        run_worker(load_settings(), options.slot)
    except WorkerRunning as running:
        print(running, file=sys.stderr)  # noqa: T201
        return SLOT_TAKEN
    return 0


if __name__ == "__main__":
    sys.exit(main())
