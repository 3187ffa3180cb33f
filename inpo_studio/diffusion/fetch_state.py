"""Where the download of a model stands, in a file of the workspace. Torch-free."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

SAID_EVERY_S = 0.5
SILENT_S = 20.0
"""A download that has said nothing for so long has ended without saying so."""

State = Literal["running", "done", "failed", "stopped"]


class FetchState(BaseModel):
    """Where it stands."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str
    """The repository that is fetched."""
    wanted_for: str = ""
    """The model it was asked for: another where the configuration of a single file is fetched."""
    precision: str = "full"
    state: State = "running"
    done: int = 0
    total: int = 0
    """Bytes; 0 before the sizes are known."""
    file: str = ""
    speed: float = 0.0
    """Bytes a second, over the last few seconds."""
    error: str = ""
    """Why it failed, in one sentence."""
    folder: str = ""
    at: float = 0.0
    """When this was written; seconds since 1970."""


def write_state(file: Path, state: FetchState) -> None:
    """Write where a download stands, whole or not at all."""
    made = file.with_name(f".{file.name}.{os.getpid()}")
    made.write_text(state.model_copy(update={"at": time.time()}).model_dump_json(), "utf-8")
    made.replace(file)


def read_state(file: Path, *, alive: bool = False) -> FetchState | None:
    """Return where the last download stands; None where there was none or nothing can be read.

    `alive` says that its process is known to live, however silent it is.
    """
    try:
        found = FetchState.model_validate_json(file.read_text("utf-8"))
    except (OSError, ValidationError):
        return None
    if found.state == "running" and not alive and time.time() - found.at > SILENT_S:
        return found.model_copy(update={"state": "stopped", "speed": 0.0})
    return found
