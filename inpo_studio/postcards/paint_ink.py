"""A subject's colours under the scene's light, and the frame it is drawn in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .paint_tools import Brush, Point, Rgb, mix, times

BASE: dict[str, Rgb] = {
    "red": (220, 36, 42),
    "orange": (250, 128, 14),
    "yellow": (255, 216, 36),
    "green": (36, 158, 66),
    "blue": (34, 94, 222),
    "purple": (128, 52, 184),
    "pink": (255, 136, 190),
    "white": (250, 250, 252),
}


@dataclass(frozen=True)
class Ink:
    """A subject's colours under the scene's light; `lit` is the light's side, -1 or 1."""

    main: Rgb
    light: Rgb
    shade: Rgb
    deep: Rgb
    trim: Rgb
    wood: Rgb
    glass: Rgb
    snow: Rgb | None
    night: bool
    lit: int
    spin: float


def ink(
    colour: str, light: Rgb, glow: Rgb, dark: bool, snow: Rgb | None, lit: int, spin: float
) -> Ink:
    """Mix a subject's inks from its colour word, the light on it and the glow of the sky."""
    main = times(BASE[colour], light)
    pale = colour == "white"
    shade = times(main, (0.80, 0.82, 0.90)) if pale else times(main, (0.72, 0.68, 0.76))
    return Ink(
        main=main,
        light=mix(main, mix(glow, (255, 255, 255), 0.5), 0.14 if dark else 0.26),
        shade=shade,
        deep=times((84, 92, 118), light) if pale else times(main, (0.46, 0.42, 0.52)),
        trim=times((246, 244, 240), light),
        wood=times((112, 72, 50), light),
        glass=(255, 220, 118) if dark else times((186, 222, 240), light),
        snow=snow,
        night=dark,
        lit=lit,
        spin=spin,
    )


class Frame:
    """A brush in the subject's frame: dx in heights toward the facing side, dy in heights up."""

    def __init__(self, brush: Brush, x: float, base: float, height: float, facing: int) -> None:
        self.brush, self.x, self.base, self.h, self.f = brush, x, base, height, facing

    def at(self, dx: float, dy: float) -> Point:
        """Picture coordinates of a frame point."""
        return self.x + self.f * dx * self.h, self.base - dy * self.h

    def poly(self, points: Sequence[Point], c: Rgb, alpha: float = 1.0) -> None:
        """Fill a polygon of frame points."""
        self.brush.poly([self.at(*p) for p in points], c, alpha)

    def rect(self, x0: float, y0: float, x1: float, y1: float, c: Rgb) -> None:
        """Fill a rectangle."""
        (a, b), (d, e) = self.at(x0, y0), self.at(x1, y1)
        self.brush.rect(a, b, d, e, c)

    def oval(self, x: float, y: float, rx: float, ry: float, c: Rgb, alpha: float = 1.0) -> None:
        """Fill an ellipse."""
        px, py = self.at(x, y)
        self.brush.oval(px, py, rx * self.h, ry * self.h, c, alpha)

    def line(self, points: Sequence[Point], c: Rgb, width: float) -> None:
        """Draw a polyline, its width in heights."""
        self.brush.line([self.at(*p) for p in points], c, width * self.h)
