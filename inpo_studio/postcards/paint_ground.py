"""What several places share: rolling outlines, water, pines."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .paint_palette import Palette
from .paint_sky import shines
from .paint_tools import Brush, Point, Rgb, mix, wave
from .scene_layout import Layout
from .scene_words import Scene

_STEPS = 40


def hill(brush: Brush, lay: Layout, k: int, base: float, amp: float) -> list[Point]:
    """The outline of rolling layer k, closed along the picture's foot."""
    ridge = lay.ridges[3 * (k % 4) : 3 * (k % 4) + 3]
    line = [
        (i / _STEPS * 1.04 - 0.02, base - amp * wave(i / _STEPS, ridge)) for i in range(_STEPS + 1)
    ]
    return [*line, (1.02, 1.02), (-0.02, 1.02)]


def crest(lay: Layout, k: int, base: float, amp: float, x: float) -> float:
    """The height of rolling layer k at x."""
    return base - amp * wave((x + 0.02) / 1.04, lay.ridges[3 * (k % 4) : 3 * (k % 4) + 3])


def crowds(lay: Layout, x: float) -> bool:
    """Whether something slim at x would crowd the subject."""
    return abs(x - lay.subject_x) < 0.5 * lay.subject_width + 0.05


def water(
    scene: Scene,
    lay: Layout,
    pal: Palette,
    brush: Brush,
    top: float,
    tint: Rgb,
    outline: list[Point] | None = None,
) -> None:
    """Water from `top` down: the sky upside down, deepening, with glints under the light."""
    s = brush.side
    rows = 40
    v = ((np.arange(rows) + 0.5) / rows)[:, None, None]
    x = ((np.arange(48) + 0.5) / 48)[None, :, None]
    deep = np.asarray(mix(pal.land(tint), pal.sky[0], 0.35))
    shore = np.asarray(mix(mix(pal.sky[2], pal.sky[1], 0.4), pal.land(tint), 0.35))
    field = shore + (deep - shore) * np.minimum(1.0, 1.25 * v) + 0 * x
    if shines(scene):
        w = 0.05 + 0.9 * lay.light_radius + 0.10 * v
        field = field + (np.asarray(pal.glow) - field) * 0.55 * np.exp(
            -(((x - lay.light_x) / w) ** 2)
        ) * (1 - 0.5 * v)
    small = Image.fromarray(np.clip(field + 0.5, 0, 255).astype(np.uint8))
    y0 = round(top * s)
    big = small.resize((s, s - y0), Image.Resampling.BICUBIC)
    if outline is None:
        brush.image.paste(big, (0, y0))
    else:
        brush.image.paste(big, (0, y0), brush.mask(outline).crop((0, y0, s, s)))


def glints(scene: Scene, lay: Layout, pal: Palette, brush: Brush, top: float, foot: float) -> None:
    """Flat diamonds of light on water, wider toward the viewer."""
    span = foot - top
    bright = mix(pal.glow, pal.sun, 0.6)
    if shines(scene):
        for k in range(7):
            a, b, _ = lay.drops[k + 12]
            v = (k + 0.4) / 7
            brush.lozenge(
                lay.light_x + (a - 0.5) * (0.05 + 0.07 * v),
                top + v * span,
                (0.03 + 0.05 * v) * (0.6 + 0.6 * b),
                0.004 + 0.005 * v,
                bright,
                0.85,
            )
    pale = mix(pal.sky[2], (255, 255, 255), 0.25 if scene.time != "night" else 0.05)
    for k in range(7):
        a, b, c = lay.drops[k + 20]
        v = (k + 0.5 * b + 0.2) / 7
        brush.lozenge(
            a, top + v * span, (0.03 + 0.05 * v) * (0.6 + 0.8 * c), 0.003 + 0.004 * v, pale, 0.55
        )


def pine(brush: Brush, x: float, y: float, h: float, tone: Rgb, cap: Rgb | None) -> None:
    """A pine of three stacked triangles, with snow on its tiers when cap is a colour."""
    brush.rect(x - 0.035 * h, y - 0.15 * h, x + 0.035 * h, y, mix(tone, (40, 24, 24), 0.4))
    for lo, hi, w in ((0.10, 0.52, 0.27), (0.34, 0.76, 0.21), (0.58, 1.0, 0.15)):
        brush.poly([(x - w * h, y - lo * h), (x, y - hi * h), (x + w * h, y - lo * h)], tone)
        if cap is not None:
            m = lo + 0.55 * (hi - lo)
            brush.poly(
                [(x - 0.45 * w * h, y - m * h), (x, y - hi * h), (x + 0.45 * w * h, y - m * h)], cap
            )
