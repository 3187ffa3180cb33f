"""The sky and what hangs in it: gradient, sun or moon, stars, clouds, birds."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .paint_palette import Palette
from .paint_tools import Brush, Rgb, mix
from .scene_layout import Layout
from .scene_words import Scene

_COARSE = 64


def shines(scene: Scene) -> bool:
    """Whether sun or moon can be seen."""
    return scene.weather not in ("rain", "fog")


def sky(scene: Scene, lay: Layout, pal: Palette, side: int) -> Image.Image:
    """Paint the whole picture with the sky's gradient and the light's halo."""
    n = _COARSE
    y = (np.arange(n) + 0.5)[:, None] / n
    x = (np.arange(n) + 0.5)[None, :] / n
    t = np.clip(y[:, 0] / lay.horizon, 0, 1)
    stops = np.array(pal.sky)
    column = np.stack([np.interp(t, (0.0, 0.55, 1.0), stops[:, k]) for k in range(3)], axis=-1)
    field = np.repeat(column[:, None, :], n, axis=1)
    strength = {"clear": 0.85, "clouds": 0.7, "snow": 0.5, "rain": 0.12, "fog": 0.25}[scene.weather]
    d2 = (x - lay.light_x) ** 2 + (y - lay.light_y) ** 2
    near = 0.55 * np.exp(-d2 / (2.0 * lay.light_radius) ** 2)
    far = 0.45 * np.exp(-d2 / (0.10 + 3.2 * lay.light_radius) ** 2)
    halo = (strength * (near + far))[:, :, None]
    field += (np.asarray(pal.glow) - field) * halo
    small = Image.fromarray(np.clip(field + 0.5, 0, 255).astype(np.uint8))
    return small.resize((side, side), Image.Resampling.BICUBIC)


def light(scene: Scene, lay: Layout, pal: Palette, brush: Brush) -> None:
    """Draw the stars, then the sun, or the moon as a disc or a crescent."""
    if scene.time == "night" and scene.weather in ("clear", "clouds"):
        for a, b, c in lay.stars:
            r = 0.0042 + 0.0046 * c * c
            brush.oval(a, 0.02 + b * (lay.horizon - 0.06), r, r, (240, 240, 255), 0.65 + 0.35 * c)
    if not shines(scene):
        return
    x, y, r = lay.light_x, lay.light_y, lay.light_radius
    if scene.time != "night":
        brush.oval(x, y, r * 1.35, r * 1.35, pal.sun, 0.28)
        brush.oval(x, y, r, r, pal.sun)
        return
    r = 0.8 * r + 0.012
    if lay.crescent:
        angle = np.linspace(0.0, np.pi, 14)
        outer = [(x - r * np.sin(a), y - r * np.cos(a)) for a in angle]
        inner = [(x - 0.35 * r * np.sin(a), y - r * np.cos(a)) for a in angle[::-1]]
        flip = -1 if lay.warmth > 0 else 1
        shape = [(x + flip * (px - x), py) for px, py in outer + inner]
        brush.poly(shape, pal.sun)
        return
    brush.oval(x, y, r, r, pal.sun)
    brush.oval(x - 0.32 * r, y - 0.20 * r, 0.22 * r, 0.22 * r, mix(pal.sun, pal.sky[1], 0.25))
    brush.oval(x + 0.28 * r, y + 0.34 * r, 0.15 * r, 0.15 * r, mix(pal.sun, pal.sky[1], 0.22))


def _cloud(brush: Brush, x: float, y: float, w: float, kind: float, c: Rgb, under: Rgb) -> None:
    """One flat-bottomed cumulus, lit above and shaded below."""
    h = w * (0.30 + 0.12 * kind)
    lumps: tuple[tuple[float, float, float], ...] = (
        (-0.27, 0.30, 0.20),
        (0.02, 0.52, 0.27),
        (0.28, 0.34, 0.19),
    )
    if kind > 0.5:
        lumps = tuple((-dx, up, r) for dx, up, r in lumps)
    for tone, drop in ((under, 0.0), (c, -0.045 * w)):
        for dx, up, r in lumps:
            brush.oval(x + dx * w, y - up * h + drop, r * w, r * w * 0.92, tone)
        for dx in (-0.36, 0.36):
            brush.oval(x + dx * w, y - 0.06 * w + drop, 0.13 * w, 0.10 * w, tone)
        brush.rect(x - 0.36 * w, y - 0.16 * w + drop, x + 0.36 * w, y + 0.04 * w + drop, tone)


def clouds(scene: Scene, lay: Layout, pal: Palette, brush: Brush) -> None:
    """Fair-weather clouds, or the dark lid of a rainy sky."""
    if scene.weather == "clouds":
        low = {"city": 0.34, "mountains": 0.27, "forest": 0.25}.get(scene.place, 0.12)
        count = len(lay.clouds)
        for k, (a, b, c) in enumerate(lay.clouds):
            x = (k + 0.15 + 0.7 * a) / count
            y = 0.13 + max(0.10, lay.horizon - low - 0.12) * b
            under = mix(pal.cloud, pal.sky[1], 0.38)
            _cloud(brush, x, y, 0.26 + 0.16 * c, (7 * c) % 1.0, pal.cloud, under)
    elif scene.weather == "rain":
        lid = mix(pal.sky[0], pal.dark, 0.30)
        for k in range(6):
            a, b, _ = lay.drops[k]
            r = 0.12 + 0.08 * b
            brush.oval((k + a) / 5.5, 0.0, r * 1.25, r, mix(lid, pal.sky[0], 0.25 * (k % 2)))


def birds(scene: Scene, lay: Layout, pal: Palette, brush: Brush) -> None:
    """A few birds: two bent strokes each, dark by day; none at night or in bad weather."""
    if scene.time == "night" or scene.weather in ("rain", "fog", "snow"):
        return
    tone = mix(pal.dark, pal.sky[1], 0.15)
    for a, b, c in lay.birds:
        x, y, w = 0.06 + 0.88 * a, 0.07 + (lay.horizon - 0.17) * b, 0.020 + 0.016 * c
        brush.line(
            [
                (x - w, y - 0.35 * w),
                (x - 0.45 * w, y - 0.6 * w),
                (x, y),
                (x + 0.45 * w, y - 0.6 * w),
                (x + w, y - 0.35 * w),
            ],
            tone,
            0.008,
        )
