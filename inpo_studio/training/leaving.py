"""Leaving when the studio goes: the last whole step is saved from beside the training."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from inpo_studio.processes import watch_lifeline

if TYPE_CHECKING:
    from inpo_studio.training.loop import Trainer

LEAVE_WITHIN_S = 2.0
"""The process is gone so long after it was told to go, saved or not."""
WAIT_FOR_STEP_S = 1.5
"""How long the end of a step's bookkeeping is waited for; the step under way is never."""

log = logging.getLogger("inpo_studio.round")


class Leaving:
    """Ends the process from another thread, with a checkpoint where there is something to save.

    A step may take minutes on a slow device. Weights change only at its end, so the state after
    the last one can be saved while the next is being computed.
    """

    def __init__(self, exit_code: int, ending: Path | None = None) -> None:
        """``exit_code`` is that of a process told to go; ``ending`` is for :meth:`say_ending`."""
        self.asked = threading.Event()
        """Set once the process is to go: what can be put off should not be begun."""
        self._exit_code = exit_code
        self._ending = ending
        self._trainer: Trainer | None = None
        self._save: Callable[[], None] = lambda: None

    def watch(self) -> None:
        """Leave when the lifeline closes or on SIGTERM; call in the main thread."""
        watch_lifeline(on_lost=self.now)
        with contextlib.suppress(ValueError):  # not the main thread
            self._watch_signals()

    def _watch_signals(self) -> None:
        """Hear SIGTERM in another thread: the main one may be deep in a library, waiting."""
        hears, speaks = socket.socketpair()
        speaks.setblocking(False)
        signal.set_wakeup_fd(speaks.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: None)

        def wait() -> None:
            for number in iter(lambda: hears.recv(1), b""):
                if number == bytes([signal.SIGTERM]):
                    self.now()

        self._ends = (hears, speaks)
        threading.Thread(target=wait, name="signals", daemon=True).start()

    def saves(self, trainer: Trainer, save: Callable[[], None]) -> None:
        """From now on there is something to lose: ``save`` writes ``trainer``'s state."""
        self._save = save
        self._trainer = trainer

    def say_ending(self, code: int) -> None:
        """Write how the round ended where a launcher passes no exit code on; the first word holds.

        Several processes may have one to say.
        """
        if self._ending is not None:
            with contextlib.suppress(OSError), self._ending.open("x", encoding="ascii") as file:
                file.write(str(int(code)))

    def alone(self, exit_code: int) -> None:
        """Another process of the round is gone: save what there is and end, with this code."""
        if not self.asked.is_set():
            self._exit_code, self._ending = exit_code, None
            self.now()
        threading.Event().wait(LEAVE_WITHIN_S)  # the thread that leaves ends this one

    def now(self) -> None:
        """Save and end the process; from any thread but one that holds ``trainer.whole``."""
        if self.asked.is_set():
            return
        self.asked.set()
        threading.Thread(target=self._end, args=(LEAVE_WITHIN_S,), daemon=True).start()
        trainer = self._trainer
        try:
            if trainer is not None and trainer.whole.acquire(timeout=WAIT_FOR_STEP_S):
                self._save()
                log.info("leaving; saved at step %d", trainer.step)
        except Exception as error:  # whatever it is, the last checkpoint holds
            log.warning("leaving; nothing more could be saved (%s)", error)
        finally:
            self.say_ending(self._exit_code)
            os._exit(self._exit_code)

    def _end(self, after_s: float) -> None:
        threading.Event().wait(after_s)
        self.say_ending(self._exit_code)
        os._exit(self._exit_code)
