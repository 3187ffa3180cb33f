"""The eight subjects, drawn in their own frame: x to the facing side, y up, height one."""

from __future__ import annotations

import math
from collections.abc import Callable

from .paint_ink import Frame, Ink
from .paint_tools import Point, times


def house(f: Frame, k: Ink) -> None:
    """A cottage: gabled front, long side under a pitched roof, chimney."""
    front, side = (k.light, k.main) if k.lit * f.f < 0 else (k.main, k.shade)
    f.rect(0.30, 0.62, 0.42, 1.0, k.deep)
    f.rect(-0.10, 0.0, 0.58, 0.50, side)
    f.poly([(-0.58, 0), (-0.58, 0.50), (-0.32, 0.86), (-0.06, 0.50), (-0.06, 0)], front)
    roof = k.deep
    f.poly([(-0.32, 0.92), (0.40, 0.92), (0.64, 0.46), (-0.02, 0.46)], roof)
    f.line([(-0.64, 0.44), (-0.32, 0.89), (0.0, 0.44)], roof, 0.07)
    if k.snow:
        f.poly([(-0.32, 0.95), (0.40, 0.95), (0.54, 0.66), (-0.14, 0.66)], k.snow)
        f.line([(-0.58, 0.54), (-0.32, 0.92), (-0.10, 0.60)], k.snow, 0.06)
        f.rect(0.28, 0.97, 0.44, 1.03, k.snow)
    f.rect(-0.40, 0.0, -0.24, 0.30, k.wood)
    f.oval(-0.32, 0.52, 0.07, 0.07, k.glass)
    for x in (0.08, 0.35):
        f.rect(x - 0.02, 0.13, x + 0.17, 0.36, k.trim)
        f.rect(x, 0.15, x + 0.15, 0.34, k.glass)


def sailboat(f: Frame, k: Ink) -> None:
    """A sloop: main sail, jib, hull with a pale band."""
    f.line([(0.0, 0.12), (0.0, 1.0)], k.wood, 0.03)
    f.poly([(0.04, 0.98), (0.14, 0.62), (0.44, 0.22), (0.04, 0.22)], k.main)
    f.poly([(0.04, 0.98), (0.14, 0.62), (0.22, 0.22), (0.04, 0.22)], k.light)
    f.poly([(-0.04, 0.90), (-0.04, 0.22), (-0.36, 0.22)], k.shade)
    f.poly([(-0.04, 0.90), (-0.04, 0.22), (-0.20, 0.22)], k.main)
    f.poly([(-0.45, 0.17), (0.47, 0.17), (0.32, 0.0), (-0.30, 0.0)], k.deep)
    f.poly([(-0.45, 0.17), (0.47, 0.17), (0.43, 0.12), (-0.41, 0.12)], k.trim)
    if k.snow:
        f.line([(-0.40, 0.18), (0.42, 0.18)], k.snow, 0.05)
    f.poly([(0.0, 1.0), (-0.13, 0.965), (0.0, 0.93)], k.deep)


def balloon(f: Frame, k: Ink) -> None:
    """A hot air balloon: striped envelope, skirt, ropes, basket."""
    gores = ((0.36, k.shade), (0.27, k.main), (0.155, k.light), (0.06, k.main))
    for half, tone in gores:
        ring = []
        for i in range(25):
            a = 2 * math.pi * i / 24
            x, y = math.sin(a), math.cos(a)
            pinch = 1.0 if y > -0.25 else 1.0 - 0.62 * ((-0.25 - y) / 0.75) ** 1.1
            ring.append((half * x * pinch, 0.63 + 0.37 * y - (0.05 if y < -0.9 else 0.0)))
        f.poly(ring, tone)
    if k.snow:
        f.oval(0, 0.955, 0.17, 0.045, k.snow)
    if k.night:
        f.oval(0, 0.22, 0.05, 0.06, (255, 220, 120))
    for x in (-0.09, 0.09):
        f.line([(x * 1.3, 0.24), (x, 0.12)], k.wood, 0.018)
    f.rect(-0.10, 0.0, 0.10, 0.13, k.wood)
    f.rect(-0.12, 0.11, 0.12, 0.145, k.deep)


def lighthouse(f: Frame, k: Ink) -> None:
    """A banded tower with a gallery, a lamp room and a cap."""

    def half(y: float) -> float:
        return 0.17 - 0.075 * y / 0.74

    if k.night:
        beam = (255, 236, 168)
        for far, alpha in ((1.30, 0.10), (1.08, 0.18), (0.86, 0.26), (0.64, 0.34), (0.42, 0.42)):
            up, down = 0.84 + 0.11 * far, 0.80 - 0.12 * far
            f.poly([(0.0, 0.85), (far, up), (far, down), (0.0, 0.79)], beam, alpha)
        f.oval(0, 0.82, 0.17, 0.15, beam, 0.45)
    band = times(k.trim, (0.80, 0.83, 0.90)) if k.main[2] > 150 and k.main[1] > 150 else k.trim
    cuts = (0.0, 0.20, 0.32, 0.54, 0.64, 0.76)
    for i in range(5):
        lo, hi = cuts[i], cuts[i + 1]
        a, b = half(lo), half(hi)
        tone = band if i % 2 else k.main
        f.poly([(-a, lo), (a, lo), (b, hi), (-b, hi)], tone)
        s = -k.lit * f.f
        f.poly(
            [(s * 0.35 * a, lo), (s * a, lo), (s * b, hi), (s * 0.35 * b, hi)],
            k.shade if tone is k.main else times(band, (0.80, 0.80, 0.86)),
        )
    f.rect(-0.085, 0.76, 0.085, 0.88, k.glass)
    f.rect(-0.015, 0.76, 0.015, 0.88, k.deep)
    f.rect(-0.15, 0.74, 0.15, 0.775, k.deep)
    f.poly([(-0.13, 0.88), (0.13, 0.88), (0.0, 1.0)], k.main)
    f.poly([(-0.13, 0.88), (-0.13, 0.90), (0.13, 0.90), (0.13, 0.88)], k.deep)
    if k.snow:
        f.poly([(-0.09, 0.93), (0.09, 0.93), (0.0, 1.02)], k.snow)
        f.rect(-0.16, 0.77, 0.16, 0.79, k.snow)
    f.rect(-0.05, 0.0, 0.05, 0.12, k.deep)
    f.rect(-0.03, 0.40, 0.03, 0.48, k.glass)


def tree(f: Frame, k: Ink) -> None:
    """A broad-leaved tree whose crown has the scene's colour."""
    f.poly([(-0.07, 0), (-0.035, 0.45), (0.035, 0.45), (0.08, 0)], k.wood)
    f.line([(0.0, 0.28), (0.17, 0.46)], k.wood, 0.04)
    f.line([(0.0, 0.24), (-0.15, 0.42)], k.wood, 0.035)
    lumps = (
        (-0.21, 0.54, 0.19),
        (0.22, 0.52, 0.18),
        (-0.15, 0.72, 0.19),
        (0.17, 0.70, 0.20),
        (0.01, 0.80, 0.20),
        (0.0, 0.60, 0.22),
    )
    s = k.lit * f.f
    for x, y, r in lumps:
        f.oval(x, y, r, r, k.shade)
    for x, y, r in lumps:
        f.oval(x + 0.025 * s, y + 0.025, 0.88 * r, 0.86 * r, k.main)
    for x, y, r in ((0.12, 0.80, 0.11), (0.22, 0.62, 0.08), (-0.08, 0.70, 0.08)):
        f.oval(s * x, y, r, 0.85 * r, k.light)
    if k.snow:
        for x, y, r in ((0.0, 0.95, 0.12), (-0.20, 0.86, 0.08), (0.22, 0.85, 0.08)):
            f.oval(x, y, r, 0.45 * r, k.snow)


def tent(f: Frame, k: Ink) -> None:
    """A ridge tent with an open flap, glowing from within by night."""
    f.poly([(-0.30, 0.97), (0.46, 0.90), (0.80, 0.0), (0.10, 0.0)], k.shade)
    f.poly([(-0.80, 0.0), (-0.30, 0.97), (0.16, 0.0)], k.main)
    f.poly([(-0.80, 0.0), (-0.30, 0.97), (-0.44, 0.0)], k.light)
    f.poly([(-0.46, 0.0), (-0.30, 0.62), (-0.12, 0.0)], (255, 214, 112) if k.night else k.deep)
    f.poly([(-0.12, 0.0), (-0.30, 0.62), (-0.22, 0.0)], k.light)
    f.line([(-0.33, 1.0), (-0.27, 0.92)], k.wood, 0.03)
    if k.snow:
        f.poly([(-0.34, 1.01), (0.47, 0.94), (0.52, 0.76), (-0.22, 0.82)], k.snow)


def windmill(f: Frame, k: Ink) -> None:
    """A tower mill with four sails at any angle."""
    s = -k.lit * f.f
    f.poly([(-0.28, 0), (0.28, 0), (0.17, 0.60), (-0.17, 0.60)], k.main)
    f.poly([(s * 0.10, 0), (s * 0.28, 0), (s * 0.17, 0.60), (s * 0.06, 0.60)], k.shade)
    f.poly([(-0.20, 0.59), (0.20, 0.59), (0.14, 0.71), (0.0, 0.78), (-0.14, 0.71)], k.deep)
    if k.snow:
        f.poly([(-0.15, 0.70), (0.15, 0.70), (0.0, 0.81)], k.snow)
    f.rect(-0.06, 0.0, 0.06, 0.17, k.wood)
    f.rect(-0.05, 0.30, 0.05, 0.40, k.glass)
    turn = math.pi / 2 * k.spin
    for i in range(4):
        a = turn + i * math.pi / 2
        c, d = math.cos(a), math.sin(a)

        def on(r: float, o: float, c: float = c, d: float = d) -> Point:
            return r * c - o * d, 0.62 + r * d + o * c

        f.poly([on(0.09, 0.0), on(0.37, 0.0), on(0.37, 0.095), on(0.09, 0.07)], k.trim)
        f.line([on(0.0, 0.0), on(0.38, 0.0)], k.wood, 0.028)
    f.oval(0, 0.62, 0.04, 0.04, k.wood)


def van(f: Frame, k: Ink) -> None:
    """A camper van: coloured body, pale roof, two wheels."""
    f.poly(
        [
            (-0.84, 0.16),
            (-0.84, 0.84),
            (-0.76, 0.96),
            (0.46, 0.96),
            (0.62, 0.86),
            (0.80, 0.50),
            (0.86, 0.42),
            (0.86, 0.16),
        ],
        k.main,
    )
    f.poly([(-0.84, 0.84), (-0.76, 0.98), (0.46, 0.98), (0.62, 0.86)], k.snow or k.trim)
    f.poly([(-0.84, 0.16), (-0.84, 0.28), (0.86, 0.28), (0.86, 0.16)], k.shade)
    f.rect(-0.84, 0.42, 0.82, 0.47, k.light)
    for x0, x1 in ((-0.74, -0.38), (-0.30, 0.06)):
        f.rect(x0, 0.52, x1, 0.78, k.glass)
    f.poly([(0.14, 0.52), (0.14, 0.78), (0.56, 0.78), (0.71, 0.52)], k.glass)
    f.line([(0.10, 0.24), (0.10, 0.80)], k.shade, 0.02)
    for x in (-0.50, 0.52):
        f.oval(x, 0.16, 0.185, 0.185, k.shade)
        f.oval(x, 0.15, 0.15, 0.15, (38, 38, 50))
        f.oval(x, 0.15, 0.07, 0.07, k.trim)
    f.oval(0.82, 0.36, 0.045, 0.06, (255, 238, 170))


DRAW: dict[str, Callable[[Frame, Ink], None]] = {
    "house": house,
    "sailboat": sailboat,
    "hot air balloon": balloon,
    "lighthouse": lighthouse,
    "tree": tree,
    "tent": tent,
    "windmill": windmill,
    "van": van,
}
