"""Painting a postcard: sky, place, ground under the subject, subject, weather."""

from __future__ import annotations

import math

from PIL import Image, ImageFilter

from . import paint_ground, paint_ink, paint_places, paint_sky, paint_weather, subjects
from .paint_palette import Palette, palette
from .paint_tools import Brush, Point, mix
from .scene_layout import Layout, layout
from .scene_words import Scene

_OVERSAMPLE = 2


def _blob(x: float, y: float, rx: float, ry: float, lay: Layout, k: int) -> list[Point]:
    """An uneven ellipse: a pond's or an island's outline."""
    (a, b, c) = lay.ridges[k]
    out = []
    for i in range(36):
        t = 2 * math.pi * i / 36
        r = 1 + 0.10 * math.sin(2 * t + 6.28 * a) + 0.07 * math.sin(3 * t + 6.28 * b + c)
        out.append((x + rx * r * math.cos(t), y + ry * r * math.sin(t)))
    return out


def _footing(scene: Scene, lay: Layout, pal: Palette, brush: Brush) -> None:
    """Give the subject what it stands on: an island or a beach by the sea, a lake for a boat."""
    x, y, w = lay.subject_x, lay.subject_base, lay.subject_width
    if scene.subject == "hot air balloon":
        return
    if scene.place == "sea" and scene.subject != "sailboat":
        sand = pal.land((232, 204, 146), 0.0, 0.75)
        grass = pal.land((112, 168, 92), 0.0, 0.85)
        if lay.variant < 2 and y > lay.horizon + 0.2:
            edge = paint_ground.hill(brush, lay, 0, y - 0.05, 0.025)
            foam = [(px, py - 0.012) for px, py in edge]
            brush.poly(foam, mix(pal.sky[2], (255, 255, 255), 0.4), 0.7)
            brush.shade(edge, sand, pal.land((206, 168, 110), 0.0, 0.6), y - 0.05, 1.0)
            return
        if lay.variant < 4:
            side = -0.15 if x < 0.5 else 1.15
            cx, rx = (x + side) / 2, abs(x - side) / 2 + 0.62 * w + 0.04
        else:
            cx, rx = x, 0.66 * w + 0.07
        brush.poly(
            _blob(cx, y + 0.035, rx + 0.02, 0.052, lay, 0),
            mix(pal.sky[2], (255, 255, 255), 0.3),
            0.5,
        )
        brush.poly(_blob(cx, y + 0.025, rx, 0.045, lay, 0), sand)
        brush.poly(_blob(cx, y + 0.008, rx * 0.9, 0.034, lay, 0), grass)
    elif scene.subject == "sailboat" and scene.place != "sea":
        ry = min(0.17, 0.10 + 0.25 * (y - lay.horizon - 0.06))
        shape = _blob(x, y + 0.02, 0.62 + 0.2 * lay.spin, ry, lay, 1)
        if scene.place == "city":
            top = max(lay.horizon + 0.10, y - 0.14)
            shape = [(0, top), (1, top), (1, 1), (0, 1)]
        bank = [(px, py - 0.009) for px, py in shape]
        brush.poly(bank, mix(pal.land((168, 152, 112), 0.0, 0.7), pal.dark, 0.1))
        top = max(lay.horizon + 0.02, min(py for _, py in shape))
        paint_ground.water(scene, lay, pal, brush, top, (30, 120, 160), shape)
        pale = mix(pal.sky[2], (255, 255, 255), 0.2 if scene.time != "night" else 0.0)
        for a, b, c in lay.drops[20:24]:
            brush.lozenge(
                x + (a - 0.5) * 0.7, y + (b - 0.35) * ry, 0.04 + 0.04 * c, 0.005, pale, 0.6
            )


def _shadow(lay: Layout, pal: Palette, image: Image.Image, alpha: Image.Image, low: bool) -> None:
    """Lay the subject's silhouette on the ground, away from the light, blurred."""
    s = image.width
    long = 0.55 if low else 0.22
    lean = (lay.subject_x - lay.light_x) * (2.6 if low else 1.2)
    lean = max(-1.5, min(1.5, lean))
    base = lay.subject_base * s
    # Output (x, y) reads input (x - lean * d, base - d / long) with d = y - base.
    data = (1.0, -lean / long * 0.6, lean / long * 0.6 * base, 0.0, -1 / long, base + base / long)
    solid = alpha.point(lambda v: 255 * (v > 200))
    cast = solid.transform((s, s), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    top = max(0, int(base - 1))
    strip = cast.crop((0, top, s, s)).filter(ImageFilter.BoxBlur(s / 170))
    image.paste(tuple(round(v) for v in pal.dark), (0, top, s, s), strip.point(lambda v: v * 0.30))


def _reflection(lay: Layout, image: Image.Image, layer: Image.Image) -> None:
    """Mirror a boat in the water below it, fading with depth."""
    s = image.width
    base = round(lay.subject_base * s)
    depth = min(s - base, round(0.55 * lay.subject_height * s))
    if depth < 4:
        return
    tall = min(base, round(depth / 0.55))
    flipped = layer.crop((0, base - tall, s, base)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    flipped = flipped.resize((s, depth), Image.Resampling.BILINEAR)
    fade = Image.linear_gradient("L").resize((s, depth)).point(lambda v: (255 - v) * 0.55)
    mask = Image.composite(fade, Image.new("L", fade.size), flipped.getchannel("A"))
    image.paste(flipped.convert("RGB"), (0, base), mask)


def _subject(scene: Scene, lay: Layout, pal: Palette, image: Image.Image) -> None:
    """Draw the subject with its shadow or reflection."""
    s = image.width
    layer = Image.new("RGBA", (s, s), (*(round(v) for v in paint_ink.BASE[scene.colour]), 0))
    lit = 1 if lay.light_x > lay.subject_x else -1
    inks = paint_ink.ink(
        scene.colour,
        pal.subject_light,
        pal.glow,
        scene.time == "night",
        pal.snow if pal.snowy else None,
        lit,
        lay.spin,
    )
    frame = paint_ink.Frame(
        Brush(layer), lay.subject_x, lay.subject_base, lay.subject_height, lay.facing
    )
    subjects.DRAW[scene.subject](frame, inks)
    if scene.subject == "sailboat":
        _reflection(lay, image, layer)
    elif scene.subject != "hot air balloon":
        _shadow(lay, pal, image, layer.getchannel("A"), scene.time in ("dawn", "sunset"))
    image.paste(layer, (0, 0), layer)


def render(scene: Scene, size: int = 128) -> Image.Image:
    """Paint a scene as an RGB picture of size x size pixels (drawn at twice that, then reduced).

    Deterministic for one Pillow version. Raises ValueError for a size below 16.
    """
    if size < 16:
        raise ValueError(f"size {size} is too small for a postcard: take 16 pixels or more.")
    lay = layout(scene)
    pal = palette(scene, lay)
    image = paint_sky.sky(scene, lay, pal, size * _OVERSAMPLE)
    brush = Brush(image)
    paint_sky.light(scene, lay, pal, brush)
    paint_sky.clouds(scene, lay, pal, brush)
    paint_places.PAINTERS[scene.place](scene, lay, pal, brush)
    paint_weather.fog_behind(scene, lay, pal, brush)
    paint_sky.birds(scene, lay, pal, brush)
    _footing(scene, lay, pal, brush)
    _subject(scene, lay, pal, image)
    paint_weather.fog_before(scene, lay, pal, brush)
    paint_weather.fall(scene, lay, pal, brush)
    return image.reduce(_OVERSAMPLE)
