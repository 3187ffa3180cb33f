"""The process that fetches a model from the Hub.

It writes where it stands into a file, twice a second, and ends by itself when its parent does. A
process of its own can be stopped at any moment, and no download holds up a page or a worker.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import cast

from inpo_studio.diffusion.client import finer_steps
from inpo_studio.diffusion.downloads import (
    Missing,
    Precision,
    configuration_files,
    download,
    outline,
)
from inpo_studio.diffusion.families import UnsupportedModel
from inpo_studio.diffusion.fetch_state import SAID_EVERY_S, FetchState, write_state
from inpo_studio.processes import watch_lifeline

_SPEED_OVER_S = 10.0
_SPEED_AFTER_S = 2.0
"""Before that a speed would be a guess."""


class _Teller:
    """Writes the state from a thread of its own, so that it is told while the network is silent."""

    def __init__(self, file: Path, state: FetchState) -> None:
        self._file = file
        self.state = state
        self._seen: list[tuple[float, int]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="teller", daemon=True)
        self._thread.start()

    def on_bytes(self, done: int, name: str) -> None:
        """Take in how far the download is."""
        self.state = self.state.model_copy(update={"done": done, "file": name})

    def end(self, **last: object) -> None:
        """Say how it ended."""
        self._ended.set()
        self._thread.join()
        write_state(self._file, self.state.model_copy(update={**last, "speed": 0.0}))

    def _tell(self) -> None:
        while not self._ended.wait(SAID_EVERY_S):
            now = time.monotonic()
            self._seen = [s for s in self._seen if now - s[0] < _SPEED_OVER_S]
            self._seen.append((now, self.state.done))
            first, before = self._seen[0]
            known = now - first >= _SPEED_AFTER_S
            speed = max(0.0, (self.state.done - before) / (now - first)) if known else 0.0
            write_state(self._file, self.state.model_copy(update={"speed": speed}))


def fetch(model: str, precision: str, wanted_for: str, file: Path) -> None:
    """Fetch a repository's pipeline in full or half precision, or its 'configuration' alone."""
    state = FetchState(model=model, precision=precision, wanted_for=wanted_for)
    teller = _Teller(file, state)
    finer_steps()
    try:
        missing = _look(model, precision)
        teller.state = state.model_copy(update={"total": missing.total_bytes})
        folder = download(missing, teller.on_bytes)
        teller.end(state="done", done=missing.total_bytes, folder=str(folder))
    except UnsupportedModel as error:
        teller.end(state="failed", error=str(error))
    except KeyboardInterrupt:
        teller.end(state="stopped")
    except OSError as error:
        teller.end(state="failed", error=f"The files cannot be written ({error.strerror}).")


def _look(model: str, precision: str) -> Missing:
    if precision == "configuration":
        return configuration_files(model)
    return outline(model, cast(Precision, precision)).missing


def main(arguments: list[str]) -> int:
    """Fetch until done or told to end: MODEL PRECISION WANTED_FOR FILE."""
    model, precision, wanted_for, file = arguments

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    # A signal, unlike a flag, also ends a wait for the network.
    watch_lifeline(on_lost=lambda: os.kill(os.getpid(), signal.SIGTERM))
    fetch(model, precision, wanted_for, Path(file))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
