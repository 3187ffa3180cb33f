"""Simulated labellers: tastes about what a caption leaves free, each with its opposite.

A taste is a plain statistic of a picture; the labeller prefers the larger value. ``-name`` is the
opposite taste. Every statistic is about pixels alone, so any picture can be judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.float64]
"""``(h, w, 3)`` in [0, 1]."""

_GREY = np.array([0.2126, 0.7152, 0.0722])


def _warm(picture: Picture) -> float:
    return float((picture[..., 0] - picture[..., 2]).mean())


def _bright(picture: Picture) -> float:
    return float((picture @ _GREY).mean())


def _colourful(picture: Picture) -> float:
    """Mean chroma: largest minus smallest of the three channels."""
    return float((picture.max(axis=2) - picture.min(axis=2)).mean())


def _contrast(picture: Picture) -> float:
    return float((picture @ _GREY).std())


def _busy_sky(picture: Picture) -> float:
    """Mean absolute gradient of the upper half."""
    grey = picture[: len(picture) // 2] @ _GREY
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())


def _brighter_left(picture: Picture) -> float:
    grey = picture @ _GREY
    half = grey.shape[1] // 2
    return float(grey[:, :half].mean() - grey[:, half:].mean())


def _brighter_top(picture: Picture) -> float:
    grey = picture @ _GREY
    half = grey.shape[0] // 2
    return float(grey[:half].mean() - grey[half:].mean())


def _centred_detail(picture: Picture) -> float:
    """Detail in the middle against detail at the rim: a large central subject has much of it."""
    grey = picture @ _GREY
    detail = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    height, width = detail.shape
    middle = detail[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4]
    return float(middle.mean() - (detail.sum() - middle.sum()) / (detail.size - middle.size))


def _large_subject(picture: Picture) -> float:
    """Share of pixels that stand out from the median of their row, where scenery is.

    On renders of one caption it orders four of five pairs by the subject's true area.
    """
    apart = np.abs(picture - np.median(picture, axis=1, keepdims=True)).max(axis=2)
    return float((apart > 0.25).mean())


def _low_horizon(picture: Picture) -> float:
    """Height of the strongest change from rows to rows below, as a share of the picture's.

    Rows count by their median, so that what stands about on them is left out. On renders of one
    caption it orders five of six pairs by the true horizon.
    """
    rows, reach = np.median(picture, axis=1), 4
    places = np.arange(reach, len(rows) - reach)
    change = np.array(
        [np.abs(rows[y - reach : y].mean(0) - rows[y : y + reach].mean(0)).sum() for y in places]
    )
    inner = (places >= 0.25 * len(rows)) & (places < 0.85 * len(rows))
    weights = change[inner] ** 2 + 1e-12
    return float((weights * places[inner]).sum() / weights.sum() / len(rows))


STATISTICS: dict[str, Callable[[Picture], float]] = {
    "warm": _warm,
    "bright": _bright,
    "colourful": _colourful,
    "contrast": _contrast,
    "busy_sky": _busy_sky,
    "brighter_left": _brighter_left,
    "brighter_top": _brighter_top,
    "centred_detail": _centred_detail,
    "large_subject": _large_subject,
    "low_horizon": _low_horizon,
}

CORE = (
    "warm",
    "bright",
    "colourful",
    "contrast",
    "large_subject",
    "low_horizon",
    "busy_sky",
    "brighter_left",
)
"""The tastes of the core grid; each is looked at with its opposite."""


def with_opposites(tastes: Sequence[str]) -> list[str]:
    """Each taste followed by its opposite."""
    return [name for taste in tastes for name in (taste, f"-{taste}")]


def statistic_of(taste: str) -> str:
    """The statistic a taste or its opposite is about."""
    return taste.removeprefix("-")


def is_random(taste: str) -> bool:
    """Whether labels of this taste mean nothing: ``random``, ``random2``, and their opposites."""
    return statistic_of(taste).startswith("random")


def draw_of(taste: str) -> list[int]:
    """What tells one drawing of random labels from another; empty for other tastes."""
    number = statistic_of(taste).removeprefix("random") if is_random(taste) else ""
    return [int(number)] if number else []


def measure(picture: Image.Image) -> dict[str, float]:
    """Every statistic of ``picture``."""
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float64) / 255
    return {name: statistic(pixels) for name, statistic in STATISTICS.items()}


def score(taste: str, picture: Image.Image) -> float:
    """How much the labeller called ``taste`` likes ``picture``; ``-warm`` is the opposite of warm.

    Raises ``KeyError`` for an unknown taste.
    """
    sign, name = (-1.0, taste[1:]) if taste.startswith("-") else (1.0, taste)
    return sign * STATISTICS[name](np.asarray(picture.convert("RGB"), dtype=np.float64) / 255)
