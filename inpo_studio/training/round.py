"""The training process of one round: ``python -m inpo_studio.training.round``.

Under ``accelerate launch`` or ``torchrun`` several such processes train it together. Standard
input is their lifeline: when the process that started them ends, the pipe closes, and they save
what they have learnt and end too. Exit codes tell the parent how it ended (:class:`Exit`).
"""

from __future__ import annotations

import argparse
import contextlib
import enum
import logging
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from inpo_studio.machine import computing_threads
from inpo_studio.processes import device_lock, step_back
from inpo_studio.settings import Settings, load_settings
from inpo_studio.training.launched import group_size, number_here, size_here
from inpo_studio.training.leaving import Leaving

if TYPE_CHECKING:
    from inpo_studio.training.ledger import Ledger
    from inpo_studio.training.prepare import Prepared, RoundInputs
    from inpo_studio.training.together import Together

log = logging.getLogger("inpo_studio.round")
_begun = time.monotonic()


class Exit(enum.IntEnum):
    """How the training process ended."""

    DONE = 0
    PAUSED = 3
    CANCELLED = 4
    FAILED = 5
    LEFT = 6
    """It was told to go; the round is as it was, and goes on from its checkpoint."""
    BEREFT = 7
    """Another process of the round has ended without a word."""


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, train, and return an :class:`Exit`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--round", required=True, dest="round_id")
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--ending", type=Path, help="file to write the exit code to")
    options = parser.parse_args(arguments)
    leaving = Leaving(Exit.LEFT, options.ending)
    leaving.watch()
    if group_size() > 1 and hasattr(os, "nice"):
        step_back(os.nice(0))  # a session of its own, which the launcher's niceness may not reach
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr, force=True
    )
    settings = load_settings({"workspace": options.workspace})
    return int(train_round(settings, options.round_id, options.attempt, leaving))


def train_round(settings: Settings, round_id: str, attempt: int, leaving: Leaving) -> Exit:
    """Train one round to an end; a failure is written to its row as one sentence."""
    from inpo_studio.training.ledger import Ledger, Stopped
    from inpo_studio.training.together import PeerLost
    from storage.errors import StaleAttempt

    ledger = Ledger.open(settings, round_id, attempt)
    try:
        code = _train_with_devices(settings, ledger, leaving)
    except Stopped as stopped:
        log.info("stopped on request: %s", stopped.request)
        code = Exit.PAUSED if stopped.request == "pause" else Exit.CANCELLED
    except StaleAttempt as stale:
        log.info("%s", stale)
        code = Exit.CANCELLED
    except PeerLost as lost:
        log.warning("%s", lost)
        leaving.alone(Exit.BEREFT)
        return Exit.BEREFT
    except Exception as error:
        log.exception("the round failed")
        ledger.fail(_sentence(error))
        code = Exit.FAILED
    finally:
        ledger.close()
    leaving.say_ending(code)
    return code


def _train_with_devices(settings: Settings, ledger: Ledger, leaving: Leaving) -> Exit:
    """Hold the devices of all processes of the round and meet those; then train."""
    from inpo_studio.training.together import join, own_device

    device = own_device(settings.device)
    with contextlib.ExitStack() as held:
        names = [device]
        if group_size() > 1:
            # One process takes them all, in order: two rounds never wait for each other.
            cards = [f"cuda:{number}" for number in range(size_here())]
            names = [] if number_here() else cards if device.startswith("cuda") else names
        for name in names:
            held.enter_context(device_lock(name, on_wait=ledger.before_training))
        together = join(device)
        code = _train(settings, ledger, leaving, together, device)
        if together.leads:
            leaving.say_ending(code)
        together.wait()  # the launcher ends all as soon as one has ended
        together.part()
        return code


def _sentence(error: Exception) -> str:
    """What a person is told of an error; our own errors are sentences already."""
    from inpo_studio.diffusion.fitting import OutOfMemory
    from inpo_studio.training.loop import DivergedError
    from storage.errors import StorageError

    lines = str(error).strip().splitlines() or [""]
    if isinstance(error, MemoryError) or "out of memory" in lines[0].lower():
        return "Memory ran out; use a smaller micro_batch_pairs, or close other programs."
    ours = isinstance(error, ValueError | StorageError | DivergedError | OutOfMemory)
    if ours and lines[0].endswith("."):
        return lines[0]
    named = f"{type(error).__name__}: {lines[0]}".rstrip(": .")
    return f"The training failed ({named}); the end of its log says more."


def _train(
    settings: Settings, ledger: Ledger, leaving: Leaving, together: Together, device: str
) -> Exit:
    import torch

    from inpo_studio.training.snapshots import Snapshots
    from inpo_studio.training.state import restore, save_state

    inputs = replace(ledger.inputs(), device=device)
    threads = computing_threads(inputs.config.threads or settings.threads)
    torch.set_num_threads(max(1, threads // together.size))
    prepared = _prepare(settings, ledger, inputs, together)
    trainer = prepared.trainer
    checkpoints = ledger.folder / "checkpoints"
    saved_step = trainer.step if restore(trainer, checkpoints, prepared.facts) else -1
    if not together.leads:
        trainer.run(lambda: None, lambda record: None, lambda: None)
        return Exit.DONE
    ledger.start_at(trainer.step, inputs.config.steps)
    log.info("training from step %d to %d", trainer.step, inputs.config.steps)
    snapshots = Snapshots(ledger, trainer, prepared.sampler, leaving.asked)

    def save() -> None:
        nonlocal saved_step
        ledger.flush()
        if trainer.step != saved_step:
            save_state(trainer, checkpoints, prepared.facts)
            saved_step = trainer.step

    leaving.saves(trainer, save)
    ending = trainer.run(ledger.request, ledger.on_step, save, snapshots.take)
    ledger.flush_all()
    if ending == "pause":
        return Exit.PAUSED
    if ending == "cancel":
        return Exit.CANCELLED
    if trainer.step == 0:
        raise ValueError("The round was finished before its first step: nothing was learnt.")
    ledger.keep_adapter(trainer)
    if snapshots.seconds:
        ledger.note_timings(samples_s=sum(snapshots.seconds) / len(snapshots.seconds))
    return Exit.DONE


def _prepare(
    settings: Settings, ledger: Ledger, inputs: RoundInputs, together: Together
) -> Prepared:
    """Load the model and invert the pictures, saying how far it is and noting how long it took."""
    from inpo_studio.training.prepare import prepare

    cache = settings.workspace / "cache" / "inversions"
    if not together.leads:
        return prepare(inputs, cache, together=together)
    ledger.stage("cache")
    ledger.tell("")
    ledger.before_training("Loading the model.")
    log.info("loading the model")
    pace = _Pace()

    def on_progress(done: int, total: int) -> None:
        pace.reach(done)
        ledger.before_training(f"Preparing the pictures: {done} of {total}.")

    prepared = prepare(inputs, cache, on_progress, together, ledger.tell)
    took = {"start_s": time.monotonic() - _begun - pace.seconds}
    if pace.items:
        took["picture_s"] = pace.seconds / pace.items
        log.info("prepared %d pictures in %.1f s", pace.items, pace.seconds)
    ledger.note_timings(**took)
    return prepared


class _Pace:
    """Seconds and items of a count that rises; one that falls back begins anew."""

    def __init__(self) -> None:
        self.items = 0
        self.seconds = 0.0
        self._last: tuple[int, float] | None = None

    def reach(self, done: int) -> None:
        now = time.monotonic()
        if self._last is not None and done > self._last[0]:
            self.items += done - self._last[0]
            self.seconds += now - self._last[1]
        self._last = (done, now)


if __name__ == "__main__":
    sys.exit(main())
