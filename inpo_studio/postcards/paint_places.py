"""The places: what lies between the sky and the subject."""

from __future__ import annotations

from collections.abc import Callable

from .paint_city import city
from .paint_ground import crest, crowds, glints, hill, pine, water
from .paint_mountains import mountains
from .paint_palette import Palette
from .paint_tools import Brush, Rgb, mix
from .scene_layout import Layout
from .scene_words import Scene


def sea(scene: Scene, lay: Layout, pal: Palette, brush: Brush) -> None:
    """Open water to a level horizon, with a far islet now and then, and sometimes a near beach."""
    h = lay.horizon
    if lay.variant % 3 == 1:
        x, w = lay.flora[0][0], 0.10 + 0.12 * lay.flora[0][1]
        tone = pal.land((90, 120, 120), 0.55, 0.4)
        brush.poly(
            [
                (x - w, h + 0.005),
                (x - 0.5 * w, h - 0.24 * w),
                (x - 0.1 * w, h - 0.42 * w),
                (x + 0.4 * w, h - 0.2 * w),
                (x + w, h + 0.005),
            ],
            tone,
        )
    water(scene, lay, pal, brush, h, (18, 104, 160))
    glints(scene, lay, pal, brush, h + 0.02, 1.0)


def desert(scene: Scene, lay: Layout, pal: Palette, brush: Brush) -> None:
    """Dunes with lit and shaded flanks, a far mesa sometimes, a few cacti."""
    h = lay.horizon
    if lay.variant % 2 == 0:
        tone = pal.land((196, 112, 84), 0.42, 0.3)
        for k in range(1 + lay.variant // 2):
            a, b, c = lay.peaks[k]
            w, t = 0.09 + 0.10 * b, 0.07 + 0.08 * c
            brush.poly(
                [
                    (a - w, h + 0.03),
                    (a - 0.72 * w, h - t),
                    (a + 0.66 * w, h - t),
                    (a + w, h + 0.03),
                ],
                tone,
            )
    sand = ((240, 196, 120), (232, 178, 98), (224, 164, 84))
    for k, (drop, amp, depth) in enumerate(
        ((0.0, 0.035, 0.35), (0.11, 0.05, 0.1), (0.28, 0.06, 0))
    ):
        lit = pal.land(mix(sand[k], (255, 236, 190), 0.25), depth, 0.62)
        low = pal.land(mix(sand[k], (150, 84, 60), 0.30), depth, 0.5)
        brush.shade(
            hill(brush, lay, k, h + drop, amp), lit, low, h + drop - amp, h + drop + 0.24 + 0.1 * k
        )
        x = 0.15 + 0.7 * lay.flora[k][0]
        y = crest(lay, k, h + drop, amp, x)
        lean = -1 if lay.light_x > x else 1
        brush.poly(
            [
                (x, y),
                (x + lean * 0.06, y + 0.05),
                (x + lean * 0.03, y + 0.16),
                (x + lean * 0.30, crest(lay, k, h + drop, amp, x + lean * 0.3)),
            ],
            pal.land(mix(sand[k], (140, 70, 60), 0.45), depth, 0.4),
            0.45,
        )
    for a, b, c in lay.flora[3 : 6 + lay.variant // 2]:
        y = h + 0.10 + 0.26 * b
        if not crowds(lay, a):
            _cactus(brush, a, y, 0.07 + 0.10 * b + 0.03 * c, pal)


def _cactus(brush: Brush, x: float, y: float, t: float, pal: Palette) -> None:
    tone, w = pal.land((62, 118, 82), 0.05, 0.25), 0.20 * t
    brush.line([(x, y), (x, y - 0.92 * t)], tone, w)
    brush.oval(x, y - 0.92 * t, w / 2, w / 2, tone)
    for side, up in ((1, 0.40), (-1, 0.28)):
        brush.line(
            [
                (x, y - up * t),
                (x + side * 0.32 * t, y - up * t),
                (x + side * 0.32 * t, y - (up + 0.32) * t),
            ],
            tone,
            0.7 * w,
        )


def forest(scene: Scene, lay: Layout, pal: Palette, brush: Brush) -> None:
    """Three rows of pines, paler with distance, and a clearing."""
    h = lay.horizon
    cap = pal.snow if pal.snowy else None
    rows = (
        (0.02, 11, 0.17, 0.62, (64, 116, 108)),
        (0.06, 9, 0.22, 0.30, (44, 98, 84)),
        (0.10, 7, 0.27, 0.06, (26, 72, 64)),
    )
    for r, (drop, count, tall, depth, tone) in enumerate(rows):
        shade = pal.land(tone, depth, 0.12)
        brush.poly(hill(brush, lay, r, h + drop, 0.015), shade)
        for k in range(count):
            a, b, c = lay.drops[(k + 9 * r) % 30]
            x = (k + 0.2 + 0.6 * a) / count
            if r == 2 and (abs(x - lay.subject_x) < 0.5 * lay.subject_width + 0.05 or c < 0.25):
                continue
            pine(
                brush,
                x,
                h + drop + 0.02,
                tall * (0.7 + 0.5 * b),
                shade,
                mix(cap, pal.haze, depth) if cap else None,
            )
    brush.shade(
        hill(brush, lay, 3, h + 0.12, 0.015),
        pal.land((74, 120, 70), 0.12, 0.85),
        pal.land((36, 76, 50), 0.0, 0.75),
        h + 0.1,
        1.0,
    )
    for a, b, c in lay.flora[4:9]:
        x, y, t = a, h + 0.17 + 0.3 * b, 0.02 + 0.02 * c
        leaf = pal.land((50, 104, 62), 0.0, 0.5)
        brush.poly(
            [
                (x - t, y),
                (x - 0.7 * t, y - t),
                (x, y - 0.3 * t),
                (x + 0.1 * t, y - 1.4 * t),
                (x + 0.5 * t, y - 0.3 * t),
                (x + t, y - 0.9 * t),
                (x + t, y),
            ],
            leaf,
        )


def meadow(scene: Scene, lay: Layout, pal: Palette, brush: Brush) -> None:
    """Rolling green hills and drifts of flowers."""
    h = lay.horizon
    greens = ((150, 204, 130), (122, 192, 92), (96, 176, 72), (74, 156, 58))
    for k, (drop, amp, depth) in enumerate(
        ((0.0, 0.055, 0.55), (0.06, 0.05, 0.22), (0.16, 0.04, 0.06), (0.30, 0.04, 0.0))
    ):
        top = pal.land(mix(greens[k], (236, 244, 150), 0.25), depth, 0.86)
        low = pal.land(mix(greens[k], (30, 100, 70), 0.28), depth, 0.8)
        brush.shade(hill(brush, lay, k, h + drop, amp), top, low, h + drop - amp, h + drop + 0.26)
    kinds: tuple[Rgb, ...] = ((255, 250, 240), (255, 214, 70), (246, 120, 160), (168, 130, 230))
    for k, (a, b, c) in enumerate(lay.flora):
        y = h + 0.19 + (0.79 - h) * b
        r = 0.008 + 0.012 * b * (0.6 + 0.6 * c)
        tone = kinds[(lay.variant + k % 2) % 4]
        seen = pal.land(tone, 0.0, 0.35)
        brush.line([(a, y), (a, y + 2.6 * r)], pal.land((52, 120, 56), 0.0, 0.4), 0.006)
        brush.oval(a, y, 1.25 * r, r, mix(seen, tone, 0.25))
        brush.oval(a, y, 0.4 * r, 0.35 * r, pal.land((250, 180, 40)))


PAINTERS: dict[str, Callable[[Scene, Layout, Palette, Brush], None]] = {
    "sea": sea,
    "mountains": mountains,
    "desert": desert,
    "forest": forest,
    "city": city,
    "meadow": meadow,
}
