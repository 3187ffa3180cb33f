"""Fetching a model beside the pages: begun, watched and stopped; one at a time. Torch-free."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from inpo_studio.diffusion.client import OnBytes, finer_steps
from inpo_studio.diffusion.downloads import download
from inpo_studio.diffusion.families import UnsupportedModel
from inpo_studio.diffusion.fetch_state import FetchState, read_state, write_state
from inpo_studio.processes import spawn, stop
from inpo_studio.settings import Settings
from inpo_studio.studio.errors import StudioError, WorkError
from inpo_studio.studio.model.models import Found

STATE_FILE = "download.json"
_GRACE_S = 5.0


def fetch_here(found: Found, on_bytes: OnBytes) -> None:
    """Fetch what a model lacks in this process, and return when all of it is here.

    What `on_bytes` raises, or Ctrl-C, stops it. Raises StudioError where the disk is too full,
    before anything is fetched, and WorkError where the Hub does not give it.
    """
    if found.missing is None:
        return
    refuse_full_disk(found)
    finer_steps()
    try:
        download(found.missing, on_bytes)
    except UnsupportedModel as error:
        raise WorkError(str(error)) from error


def refuse_full_disk(found: Found) -> None:
    """Raise StudioError where the disk has no room for what a model lacks."""
    try:
        if found.missing is not None:
            found.missing.refuse_full_disk()
    except UnsupportedModel as error:
        raise StudioError(str(error)) from error


class Fetching:
    """The download of one studio; it ends with the process that asked for it, and can go on."""

    def __init__(self, settings: Settings) -> None:
        """Look at nothing yet."""
        self._file: Path = settings.workspace / STATE_FILE
        self._log = settings.logs / "download.log"
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def begin(self, found: Found) -> None:
        """Fetch what a model lacks; the same download again changes nothing.

        Raises StudioError while another one runs, and where the disk is too full.
        """
        missing = found.missing
        if missing is None or not missing.to_fetch:
            raise StudioError("All of this model is on this machine already; use it.")
        with self._lock:
            now = self.state()
            if now is not None and now.state == "running":
                if now.wanted_for == found.name:
                    return
                raise StudioError(
                    f"{now.model} is being fetched; wait for it, or stop it, then fetch another."
                )
            refuse_full_disk(found)
            precision = missing.precision if found.origin == "hub" else "configuration"
            first = FetchState(
                model=missing.repository,
                wanted_for=found.name,
                precision=precision,
                done=missing.here_bytes,
                total=missing.total_bytes,
            )
            write_state(self._file, first)
            self._child = spawn(
                [
                    *(sys.executable, "-m", "inpo_studio.jobs.fetch"),
                    *(missing.repository, precision, found.name, str(self._file)),
                ],
                log_path=self._log,
            )

    def state(self) -> FetchState | None:
        """Return where the last download stands; None where there was none."""
        child = self._child
        ended = child is not None and child.poll() is not None
        # Read after the look at the child, whose last word it then is.
        found = read_state(self._file, alive=child is not None and not ended)
        if ended and found is not None and found.state == "running":
            return found.model_copy(update={"state": "stopped", "speed": 0.0})
        return found

    def stop(self) -> None:
        """Stop the download; finished files stay. Returns when it has ended.

        One that has ended already is forgotten.
        """
        now = self.state()
        if self._child is not None:
            stop(self._child, _GRACE_S)
        if now is not None and now.state != "running":
            self._file.unlink(missing_ok=True)
