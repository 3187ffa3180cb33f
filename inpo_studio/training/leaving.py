"""Leaving when the studio goes: the last whole step is saved from beside the training."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable
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

    def __init__(self, exit_code: int) -> None:
        self.asked = threading.Event()
        """Set once the process is to go: what can be put off should not be begun."""
        self._exit_code = exit_code
        self._trainer: Trainer | None = None
        self._save: Callable[[], None] = lambda: None

    def watch(self) -> None:
        """Leave when the lifeline closes or on SIGTERM; call in the main thread."""
        watch_lifeline(on_lost=self.now)
        with contextlib.suppress(ValueError):  # not the main thread
            signal.signal(
                signal.SIGTERM,
                lambda *_: threading.Thread(target=self.now, daemon=True).start(),
            )

    def saves(self, trainer: Trainer, save: Callable[[], None]) -> None:
        """From now on there is something to lose: ``save`` writes ``trainer``'s state."""
        self._save = save
        self._trainer = trainer

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
                log.info("the studio has gone; saved at step %d", trainer.step)
        except Exception as error:  # whatever it is, the last checkpoint holds
            log.warning("the studio has gone; nothing more could be saved (%s)", error)
        finally:
            os._exit(self._exit_code)

    def _end(self, after_s: float) -> None:
        threading.Event().wait(after_s)
        os._exit(self._exit_code)
