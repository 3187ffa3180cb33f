"""The logs of child processes, read from their end."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from inpo_studio.settings import Settings

_TAIL_BYTES = 16_384


def round_log_path(settings: Settings, round_id: str) -> Path:
    """Return where the training process of a round writes its log."""
    return settings.logs / f"round-{round_id}.log"


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a log that are not blank, oldest first; none without a log."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return []
    return list(deque((line for line in text.splitlines() if line.strip()), max(0, count)))
