"""What a person should know of a round at work: one sentence in a file of the round's folder."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from storage.files import write_durably

FILE = "remark.txt"


def note_remark(folder: Path, sentence: str) -> None:
    """Keep a sentence in place of the one before; an empty one removes it.

    A round is as good without it, so a disk that cannot be written is passed over.
    """
    with suppress(OSError):
        if sentence:
            write_durably(folder / FILE, sentence.encode("utf-8"))
        else:
            (folder / FILE).unlink(missing_ok=True)


def read_remark(folder: Path) -> str:
    """The sentence; empty where there is none."""
    try:
        return (folder / FILE).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
