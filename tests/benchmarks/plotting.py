"""A plain chart as SVG: points with intervals in rows, one colour a series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

COLOURS = ("#1f6feb", "#d9822b", "#2a9d5c", "#b04fc4", "#8a8a8a", "#c0392b", "#0f9aa8")
_LEFT, _RIGHT, _ROW, _TOP = 210, 40, 26, 64


@dataclass(frozen=True)
class Point:
    """A value with an interval in a row, of a series."""

    row: str
    series: str
    value: float
    low: float
    high: float


def round_marks(most: float) -> list[float]:
    """Ticks from 0 to at least ``most``, 1, 2 or 5 times a power of ten apart, six at most."""
    power = 10.0 ** math.floor(math.log10(most))
    step = next(s for s in (power / 5, power / 2, power, 2 * power) if 5 * s >= most)
    return [step * k for k in range(math.ceil(most / step) + 1)]


def dot_chart(
    path: Path,
    points: Sequence[Point],
    title: str,
    axis: str,
    marks: Sequence[float],
    guide: float | None = None,
    width: int = 860,
) -> None:
    """Write ``points`` as an SVG; ``marks`` are the ticks, ``guide`` a dashed line."""
    rows = list(dict.fromkeys(point.row for point in points))
    series = list(dict.fromkeys(point.series for point in points))
    height = _TOP + _ROW * len(rows) + 46
    low, high = min(marks), max(marks)

    def across(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return _LEFT + share * (width - _LEFT - _RIGHT)

    bottom = _TOP + _ROW * len(rows)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" font-family="sans-serif" font-size="13">'
        ),
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="12" y="24" font-size="16" font-weight="bold">{escape(title)}</text>',
    ]
    for mark in marks:
        x = across(mark)
        parts.append(f'<path d="M{x:.1f} {_TOP}V{bottom}" stroke="#e3e3e3"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{mark:g}</text>')
    if guide is not None:
        x = across(guide)
        parts.append(f'<path d="M{x:.1f} {_TOP}V{bottom}" stroke="#777" stroke-dasharray="4 3"/>')
    middle = (_LEFT + width - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{bottom + 38}" text-anchor="middle">{escape(axis)}</text>')
    for index, name in enumerate(series):
        x = _LEFT + 150 * index
        parts.append(f'<circle cx="{x}" cy="44" r="5" fill="{COLOURS[index % len(COLOURS)]}"/>')
        parts.append(f'<text x="{x + 10}" y="48">{escape(name)}</text>')
    for row, name in enumerate(rows):
        y = _TOP + _ROW * (row + 0.5)
        parts.append(f'<text x="{_LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
    for point in points:
        index = series.index(point.series)
        colour = COLOURS[index % len(COLOURS)]
        apart = (index - (len(series) - 1) / 2) * min(7.0, _ROW / (len(series) + 1))
        y = _TOP + _ROW * (rows.index(point.row) + 0.5) + apart
        line = f"M{across(point.low):.1f} {y:.1f}H{across(point.high):.1f}"
        parts.append(f'<path d="{line}" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<circle cx="{across(point.value):.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
    path.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")
