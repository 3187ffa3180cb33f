"""The city: a skyline in two rows, windows, lamps, a quay."""

from __future__ import annotations

from .paint_ground import crowds
from .paint_palette import Palette
from .paint_tools import Brush, Rgb, mix
from .scene_layout import Layout
from .scene_words import Scene


def city(scene: Scene, lay: Layout, pal: Palette, brush: Brush) -> None:
    """A skyline in two rows, windows lit by night, above a paved quay."""
    h = lay.horizon
    lit = (255, 214, 110)
    glow = {"night": 0.95, "sunset": 0.8, "dawn": 0.25, "noon": 0.0}[scene.time]
    foot = h + 0.08
    for row, (count, depth, tone, rise) in enumerate(
        ((9, 0.60, (120, 136, 164), 0.17), (7, 0.18, (92, 104, 138), 0.08))
    ):
        for k in range(count):
            a, b, c = lay.blocks[k + 10 * row]
            w = 1.12 / count * (0.72 + 0.36 * a)
            x = (k + 0.5) / count
            top = h - rise - 0.19 * b
            wall = pal.land(mix(tone, (170, 120, 120), 0.35 * c), depth, 0.1)
            _tower(brush, pal, x, top, w, foot, c, wall)
            if row == 1:
                pane = mix(mix(wall, pal.sky[2], 0.5), lit, glow)
                _windows(brush, lay, x, top, w, foot, k, pane, mix(wall, pal.dark, 0.25), glow)
    pave = pal.land((150, 152, 164), 0.1, 0.85)
    low = pal.land((108, 112, 130), 0.0, 0.8)
    brush.shade([(0, foot), (1, foot), (1, 1), (0, 1)], pave, low, foot, 1.0)
    brush.rect(0, foot - 0.012, 1, foot + 0.012, pal.land((84, 92, 112), 0.1, 0.5))
    mid = foot + 0.08 + 0.10 * lay.flora[1][1]
    brush.rect(0, mid, 1, mid + 0.016, pal.land((184, 186, 196), 0.0, 0.9), 0.7)
    for a, b, _ in lay.flora[2 : 5 + lay.variant % 2]:
        if not crowds(lay, a):
            _lamp(brush, pal, a, foot + 0.03, 0.15 + 0.04 * b, glow)


def _tower(
    brush: Brush, pal: Palette, x: float, top: float, w: float, foot: float, kind: float, wall: Rgb
) -> None:
    brush.rect(x - w / 2, top, x + w / 2, foot, wall)
    if kind < 0.22:
        brush.poly([(x - w / 2, top), (x, top - 0.6 * w), (x + w / 2, top)], wall)
    elif kind < 0.42:
        brush.rect(x - 0.25 * w, top - 0.035, x + 0.25 * w, top, wall)
        brush.line([(x, top), (x, top - 0.085)], wall, 0.008)
    elif kind < 0.56:
        brush.oval(x, top, 0.5 * w, 0.32 * w, wall)
    if pal.snowy and kind >= 0.56:
        brush.rect(x - w / 2, top - 0.012, x + w / 2, top + 0.008, pal.snow)


def _windows(
    brush: Brush,
    lay: Layout,
    x: float,
    top: float,
    w: float,
    foot: float,
    k: int,
    pane: Rgb,
    unlit: Rgb,
    glow: float,
) -> None:
    for row in range(int((foot - top - 0.05) / 0.055)):
        for col in (-1, 0, 1):
            on = lay.blocks[(3 * k + 5 * row + 7 * (col + 1)) % 26][2] < 0.62
            cx, cy = x + col * 0.28 * w, top + 0.03 + 0.055 * row
            if on or glow < 0.5:
                brush.rect(cx - 0.011, cy, cx + 0.011, cy + 0.026, pane if on else unlit)


def _lamp(brush: Brush, pal: Palette, x: float, foot: float, t: float, glow: float) -> None:
    post = pal.land((52, 58, 78))
    brush.line([(x, foot), (x, foot - t)], post, 0.011)
    if glow > 0.5:
        brush.oval(x, foot - t, 0.035, 0.035, (255, 214, 120), 0.28)
    lamp = mix((236, 240, 244), (255, 226, 140), glow)
    brush.oval(x, foot - t, 0.016, 0.016, mix(pal.land((236, 240, 244)), lamp, max(0.1, glow)))
