"""From the drawer's fields, as typed, to what a round can be asked; errors are one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType
from typing import Any, get_args

from inpo_studio.configs import Objective
from inpo_studio.studio.align.aligning import Wish
from inpo_studio.studio.errors import StudioError
from inpo_studio.ui.align.messages import Drawer


@dataclass(frozen=True)
class _Range:
    """What a number in the drawer may be."""

    label: str
    least: float
    most: float
    whole: bool = False


NUMBERS = {
    "steps": _Range("Steps", 1, 100_000, whole=True),
    "beta": _Range("Beta", 1e-3, 1e6),
    "label_noise": _Range("The share of wrong clicks", 0, 0.49),
    "learning_rate": _Range("The learning rate", 1e-8, 1.0),
    "rank": _Range("The rank", 1, 256, whole=True),
    "batch_pairs": _Range("Pairs a step", 1, 512, whole=True),
}


def wish_of(drawer: Drawer) -> Wish:
    """Return what the drawer asks for; StudioError says which field cannot be read."""
    changes: dict[str, Any] = {}
    if drawer.objective:
        if drawer.objective not in get_args(Objective):
            raise StudioError("This objective is unknown; choose one of the list.")
        changes["objective"] = drawer.objective
    for name, allowed in NUMBERS.items():
        typed = getattr(drawer, name)
        if typed:
            changes[name] = _number(typed, allowed)
    if drawer.compiled:
        changes["compiled"] = True
    return Wish(
        changes=changes,
        which=drawer.which,
        annotators=(drawer.annotator,) if drawer.annotator else None,
        parent=_parent(drawer.parent),
    )


def _number(typed: str, allowed: _Range) -> int | float:
    kind = "a whole number" if allowed.whole else "a number"
    wrong = f"{allowed.label} must be {kind} from {allowed.least:g} to {allowed.most:g}"
    try:
        value = int(typed) if allowed.whole else float(typed.replace(",", "."))
    except ValueError as error:
        raise StudioError(f"{wrong}; “{typed}” is none.") from error
    if not allowed.least <= value <= allowed.most:
        raise StudioError(f"{wrong}, not {typed}.")
    return value


def _parent(named: str) -> str | EllipsisType | None:
    if named == "adopted":
        return ...
    return None if named == "base" else named
