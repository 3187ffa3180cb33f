"""The mountains: snow-capped peaks in two ranges above a valley."""

from __future__ import annotations

from .paint_ground import crest, hill, pine
from .paint_palette import Palette
from .paint_tools import Brush, Rgb, mix
from .scene_layout import Layout
from .scene_words import Scene


def mountains(scene: Scene, lay: Layout, pal: Palette, brush: Brush) -> None:
    """Snow-capped peaks in two ranges, each with a lit and a shaded face, above a valley."""
    h = lay.horizon
    for row, (depth, grow, tone) in enumerate(
        ((0.55, 1.0, (112, 124, 160)), (0.22, 0.72, (84, 98, 132)))
    ):
        for k in sorted(range(3), key=lambda j: lay.peaks[j + 3 * row][1], reverse=True):
            a, b, c = lay.peaks[k + 3 * row]
            x = (k + 0.15 + 0.7 * a) / 3 + 0.10 * row - 0.05
            tall = grow * (0.18 + 0.16 * b)
            _peak(
                brush,
                lay,
                pal,
                x,
                h + 0.02 + 0.03 * row,
                tall,
                tall * (0.95 + 0.4 * c),
                depth,
                tone,
            )
    near = pal.land((104, 138, 104), 0.08, 0.85)
    brush.shade(hill(brush, lay, 0, h + 0.03, 0.02), mix(near, pal.haze, 0.45), near, h, h + 0.22)
    brush.shade(
        hill(brush, lay, 1, h + 0.19, 0.03),
        pal.land((86, 122, 90), 0.05, 0.9),
        pal.land((60, 96, 76), 0.0, 0.8),
        h + 0.1,
        1.0,
    )
    cap = pal.snow if pal.snowy else None
    for k in range(2 + lay.variant):
        a, b, c = lay.flora[k]
        x = 0.5 * a if k % 2 else 1 - 0.5 * a
        y = crest(lay, 0, h + 0.03, 0.02, x) + 0.03 + 0.04 * b
        pine(brush, x, y, 0.08 + 0.05 * c, pal.land((40, 84, 80), 0.12, 0.2), cap)


def _peak(
    brush: Brush,
    lay: Layout,
    pal: Palette,
    x: float,
    foot: float,
    tall: float,
    half: float,
    depth: float,
    tone: Rgb,
) -> None:
    lit = 1 if lay.light_x > x else -1
    bright = pal.land(mix(tone, (255, 240, 230), 0.22), depth, 0.35)
    dim = pal.land(mix(tone, (30, 30, 70), 0.22), depth, 0.2)
    top = foot - tall
    brush.poly([(x - half, foot), (x, top), (x + half, foot)], bright)
    crook = [
        (x, top),
        (x + lit * 0.10 * half, top + 0.4 * tall),
        (x - lit * 0.05 * half, foot),
        (x - lit * half, foot),
    ]
    brush.poly(crook, dim)
    white = mix(pal.snow, pal.haze, 0.6 * depth)
    c = 0.40 * tall
    r = half * c / tall
    brush.poly(
        [
            (x, top),
            (x + lit * r, top + c),
            (x + lit * 0.55 * r, top + 0.80 * c),
            (x + lit * 0.25 * r, top + 1.12 * c),
            (x + lit * 0.06 * r, top + 0.8 * c),
        ],
        white,
    )
    brush.poly(
        [
            (x, top),
            (x + lit * 0.06 * r, top + 0.8 * c),
            (x - lit * 0.3 * r, top + 1.1 * c),
            (x - lit * 0.6 * r, top + 0.8 * c),
            (x - lit * r, top + c),
        ],
        mix(white, dim, 0.35),
    )
