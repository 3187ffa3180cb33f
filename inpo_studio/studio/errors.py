"""What the use-cases refuse with; every message is one sentence that says what to do."""

from __future__ import annotations


class StudioError(ValueError):
    """The request cannot be carried out as it is; nothing was written."""


class WorkError(RuntimeError):
    """Work that was started has failed."""
