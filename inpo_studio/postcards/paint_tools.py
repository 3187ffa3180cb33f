"""A brush over a Pillow picture, in shares of the picture's side, and colour arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

Rgb = tuple[float, float, float]
Point = tuple[float, float]


def mix(a: Rgb, b: Rgb, t: float) -> Rgb:
    """Blend from a (t = 0) to b (t = 1)."""
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def times(a: Rgb, b: Rgb) -> Rgb:
    """Multiply a colour by a light given in shares of one."""
    return (a[0] * b[0], a[1] * b[1], a[2] * b[2])


def whole(c: Rgb, alpha: float = 1.0) -> tuple[int, int, int, int]:
    """Round a colour to four bytes."""
    r, g, b = (min(255, max(0, round(v))) for v in c)
    return r, g, b, min(255, max(0, round(255 * alpha)))


def wave(x: float, ridge: Sequence[Sequence[float]]) -> float:
    """A rolling line through three waves, about -1..1, from triples of uniform numbers."""
    total = 0.0
    for k, (a, f, phase) in enumerate(ridge):
        freq = (0.5, 1.1, 2.1)[k % 3] * (0.75 + 0.5 * f)
        total += (
            (0.62, 0.40, 0.14)[k % 3]
            * (0.45 + 0.55 * a)
            * math.sin(2 * math.pi * (freq * x + phase))
        )
    return total


class Brush:
    """Draws shapes on one picture; every coordinate is a share of its side."""

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self.side = image.width
        self._draw = ImageDraw.Draw(image, "RGBA" if image.mode == "RGB" else None)

    def _at(self, points: Sequence[Point]) -> list[Point]:
        s = self.side
        return [(x * s - 0.5, y * s - 0.5) for x, y in points]

    def poly(self, points: Sequence[Point], colour: Rgb, alpha: float = 1.0) -> None:
        """Fill a polygon."""
        self._draw.polygon(self._at(points), fill=whole(colour, alpha))

    def oval(self, x: float, y: float, rx: float, ry: float, c: Rgb, alpha: float = 1.0) -> None:
        """Fill an ellipse about (x, y)."""
        (a, b), (d, e) = self._at([(x - rx, y - ry), (x + rx, y + ry)])
        self._draw.ellipse((a, b, d, e), fill=whole(c, alpha))

    def rect(self, x0: float, y0: float, x1: float, y1: float, c: Rgb, alpha: float = 1.0) -> None:
        """Fill a rectangle given by two opposite corners in any order."""
        (a, b), (d, e) = self._at([(min(x0, x1), min(y0, y1)), (max(x0, x1), max(y0, y1))])
        self._draw.rectangle((a, b, d, e), fill=whole(c, alpha))

    def line(self, points: Sequence[Point], c: Rgb, width: float, alpha: float = 1.0) -> None:
        """Draw a polyline `width` wide."""
        w = max(1, round(width * self.side))
        self._draw.line(self._at(points), fill=whole(c, alpha), width=w, joint="curve")

    def lozenge(self, x: float, y: float, rx: float, ry: float, c: Rgb, alpha: float = 1.0) -> None:
        """Fill a flat diamond: a glint on water."""
        self.poly([(x - rx, y), (x, y - ry), (x + rx, y), (x, y + ry)], c, alpha)

    def mask(self, points: Sequence[Point]) -> Image.Image:
        """Return the polygon's silhouette as a picture of bytes, 255 within."""
        mask = Image.new("L", (self.side, self.side))
        ImageDraw.Draw(mask).polygon(self._at(points), fill=255)
        return mask

    def shade(self, points: Sequence[Point], top: Rgb, bottom: Rgb, y0: float, y1: float) -> None:
        """Fill a polygon with a vertical gradient that runs from y0 to y1."""
        s = self.side
        mask = self.mask(points)
        t = np.clip((np.arange(s) / s - y0) / max(1e-6, y1 - y0), 0, 1)[:, None]
        column = np.asarray(top) * (1 - t) + np.asarray(bottom) * t
        strip = Image.fromarray(np.clip(column + 0.5, 0, 255).astype(np.uint8)[:, None, :])
        self.image.paste(strip.resize((s, s), Image.Resampling.NEAREST), (0, 0), mask)

    def veil(self, y: float, half: float, colour: Rgb, alpha: float) -> None:
        """Lay a soft horizontal band of colour over the picture, strongest at y."""
        s = self.side
        t = (np.arange(s) / s - y) / half
        soft = np.clip(255 * alpha * np.exp(-t * t), 0, 255).astype(np.uint8)[:, None]
        mask = Image.fromarray(soft).resize((s, s), Image.Resampling.NEAREST)
        self.image.paste(whole(colour)[:3], (0, 0, s, s), mask)
