"""Which errors are the user's to mend, and with which exit code the command ends."""

from __future__ import annotations

from pydantic import ValidationError

from inpo_studio.engine import EngineError
from inpo_studio.processes import WorkerRunning
from inpo_studio.settings import SettingsError
from inpo_studio.studio.errors import StudioError, WorkError
from storage.errors import IllegalTransition, InvalidInput, NotFound, StorageError

_TO_MEND = (
    SettingsError,
    StudioError,
    WorkerRunning,
    IllegalTransition,
    InvalidInput,
    NotFound,
)


def explain(error: Exception) -> tuple[str, int] | None:
    """Return a sentence and an exit code; None for what can only be a bug."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        return f"{field or 'The configuration'}: {first['msg']}.", 2
    if isinstance(error, _TO_MEND):
        return str(error), 2
    if isinstance(error, (StorageError, EngineError, WorkError)):
        return str(error), 1
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename} cannot be used ({error.strerror}).", 1
    return None
