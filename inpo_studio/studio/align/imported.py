"""Rounds that were never trained here: an adapter from elsewhere, as a node of the tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from storage.rounds import IMPORTED
from storage.schema import Round

_KEY = IMPORTED
LONGEST_NAME = 80


@dataclass(frozen=True)
class Imported:
    """Where the adapter of an imported round comes from."""

    name: str
    """What it is called in the tree."""
    file: str
    """Name of the file it was read from, without its folder."""
    form: str
    """diffusers, peft or kohya."""
    sha256: str
    """Of that file."""
    left_out: int = 0
    """Layers of text encoders that were left out."""


def as_selection(found: Imported) -> dict[str, Any]:
    """What the round's row keeps instead of a choice of choices: it has learnt from none."""
    return {_KEY: asdict(found)}


def imported_from(row: Round) -> Imported | None:
    """Say where a round's adapter was imported from; None for a round that was trained."""
    said = (row.selection or {}).get(_KEY)
    if not isinstance(said, Mapping):
        return None
    return Imported(
        name=str(said.get("name", "")),
        file=str(said.get("file", "")),
        form=str(said.get("form", "")),
        sha256=str(said.get("sha256", "")),
        left_out=int(said.get("left_out", 0)),
    )


def trained(row: Round) -> bool:
    """Whether a round is one of training."""
    return imported_from(row) is None
