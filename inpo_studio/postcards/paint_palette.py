"""Hand-picked colours for each time of day, bent by the weather and the seed's mood."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .paint_tools import Rgb, mix, times
from .scene_layout import Layout
from .scene_words import Scene

# Sky at the top, in the middle and at the horizon.
_SKY: dict[str, tuple[Rgb, Rgb, Rgb]] = {
    "dawn": ((158, 206, 218), (206, 196, 232), (255, 214, 212)),
    "noon": ((46, 136, 230), (112, 188, 248), (206, 236, 252)),
    "sunset": ((74, 36, 112), (206, 62, 108), (255, 146, 54)),
    "night": ((10, 14, 46), (20, 30, 80), (46, 62, 122)),
}
# Light that multiplies land colours; haze of the distance; sun or moon; its glow.
_LIGHT: dict[str, Rgb] = {
    "dawn": (0.96, 0.86, 0.94),
    "noon": (1.0, 1.0, 1.0),
    "sunset": (0.86, 0.50, 0.50),
    "night": (0.34, 0.39, 0.62),
}
_HAZE: dict[str, Rgb] = {
    "dawn": (236, 208, 226),
    "noon": (186, 218, 244),
    "sunset": (226, 96, 92),
    "night": (40, 54, 112),
}
_SUN: dict[str, Rgb] = {
    "dawn": (255, 244, 226),
    "noon": (255, 246, 196),
    "sunset": (255, 226, 128),
    "night": (246, 244, 224),
}
_GLOW: dict[str, Rgb] = {
    "dawn": (255, 236, 214),
    "noon": (255, 250, 224),
    "sunset": (255, 188, 84),
    "night": (110, 128, 196),
}
_SUBJECT_LIGHT: dict[str, Rgb] = {
    "dawn": (1.0, 0.96, 0.98),
    "noon": (1.0, 1.0, 1.0),
    "sunset": (1.0, 0.91, 0.88),
    "night": (0.86, 0.85, 0.95),
}
_RAIN: dict[str, Rgb] = {
    "dawn": (176, 170, 188),
    "noon": (150, 168, 186),
    "sunset": (126, 74, 104),
    "night": (22, 28, 50),
}
_FOG: dict[str, Rgb] = {
    "dawn": (240, 218, 226),
    "noon": (224, 232, 238),
    "sunset": (238, 158, 128),
    "night": (78, 88, 130),
}
_SNOW: dict[str, Rgb] = {
    "dawn": (252, 236, 244),
    "noon": (242, 248, 254),
    "sunset": (252, 190, 178),
    "night": (116, 132, 188),
}
_CLOUD: dict[str, Rgb] = {
    "dawn": (255, 236, 238),
    "noon": (255, 255, 255),
    "sunset": (255, 176, 138),
    "night": (92, 102, 152),
}
_DARK: dict[str, Rgb] = {
    "dawn": (96, 82, 124),
    "noon": (36, 58, 92),
    "sunset": (58, 20, 62),
    "night": (4, 6, 24),
}


@dataclass(frozen=True)
class Palette:
    """Finished colours (0..255) of one postcard, plus the mixing that land painters need."""

    sky: tuple[Rgb, Rgb, Rgb]
    light: Rgb
    haze: Rgb
    sun: Rgb
    glow: Rgb
    snow: Rgb
    fog: Rgb
    cloud: Rgb
    dark: Rgb
    subject_light: Rgb
    thickness: float
    snowy: bool
    mood: tuple[tuple[float, ...], ...]

    def bend(self, c: Rgb) -> Rgb:
        """Apply the seed's hue, warmth, brightness and saturation."""
        r, g, b = (m[0] * c[0] + m[1] * c[1] + m[2] * c[2] for m in self.mood)
        return (min(255.0, max(0.0, r)), min(255.0, max(0.0, g)), min(255.0, max(0.0, b)))

    def land(self, c: Rgb, depth: float = 0.0, cover: float = 0.0) -> Rgb:
        """Light a land colour; depth 0..1 fades it to haze, cover is its share under snow."""
        lit = self.bend(times(c, self.light))
        if self.snowy:
            lit = mix(lit, self.snow, cover)
        return mix(lit, self.haze, min(0.9, depth * self.thickness))


def _mood(place: Layout) -> tuple[tuple[float, ...], ...]:
    """A 3x3 colour matrix: saturation about luma, a small hue turn, warmth and brightness."""
    luma = np.array([[0.30, 0.59, 0.11]] * 3)
    angle = 0.16 * place.hue
    c, s, third = math.cos(angle), math.sin(angle), math.sqrt(1 / 3)
    turn = np.full((3, 3), (1 - c) / 3) + np.eye(3) * c
    turn += s * third * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    sat = luma + place.saturation * (np.eye(3) - luma)
    warm = np.diag([1 + 0.09 * place.warmth, 1 + 0.01 * place.warmth, 1 - 0.10 * place.warmth])
    return tuple(tuple(row) for row in (place.brightness * warm @ turn @ sat).tolist())


def palette(scene: Scene, place: Layout) -> Palette:
    """Choose and bend the colours of one postcard; the subject's colour has no say."""
    time, weather = scene.time, scene.weather
    raw = Palette(
        _SKY[time],
        _LIGHT[time],
        _HAZE[time],
        _SUN[time],
        _GLOW[time],
        _SNOW[time],
        _FOG[time],
        _CLOUD[time],
        _DARK[time],
        _SUBJECT_LIGHT[time],
        1.0,
        weather == "snow",
        _mood(place),
    )
    veil, share, light, thick = {
        "clear": (raw.haze, 0.0, 1.0, 1.0),
        "clouds": (raw.haze, 0.08, 0.97, 1.0),
        "snow": (raw.snow, 0.24, 0.95, 1.0),
        "rain": (_RAIN[time], 0.62, 0.80, 1.25),
        "fog": (raw.fog, 0.66, 0.95, 1.9),
    }[weather]
    if time == "night" and weather == "fog":
        share, thick = 0.45, 1.2
    sky = tuple(mix(raw.bend(c), veil, share) for c in raw.sky)
    return Palette(
        sky=(sky[0], sky[1], sky[2]),
        light=(raw.light[0] * light, raw.light[1] * light, raw.light[2] * light),
        haze=mix(raw.bend(raw.haze), veil, share),
        sun=raw.sun,
        glow=raw.bend(raw.glow),
        snow=raw.snow,
        fog=raw.fog,
        cloud=mix(raw.bend(raw.cloud), raw.cloud, 0.4),
        dark=raw.dark,
        subject_light=raw.subject_light,
        thickness=thick,
        snowy=raw.snowy,
        mood=raw.mood,
    )
