"""Weather in front of the land: veils of fog, streaks of rain, flakes of snow."""

from __future__ import annotations

from .paint_palette import Palette
from .paint_tools import Brush, mix
from .scene_layout import Layout
from .scene_words import Scene


def _hits_subject(lay: Layout, x: float, y: float) -> bool:
    left = abs(x - lay.subject_x) < 0.5 * lay.subject_width + 0.01
    return left and lay.subject_base - lay.subject_height - 0.02 < y < lay.subject_base + 0.01


def fog_behind(scene: Scene, lay: Layout, pal: Palette, brush: Brush) -> None:
    """Bands of fog that hang between the land and the subject."""
    if scene.weather != "fog":
        return
    for k in range(3):
        a, b, _ = lay.drops[k]
        y = lay.horizon - 0.16 + 0.19 * k + 0.08 * (a - 0.5)
        brush.veil(y, 0.045 + 0.04 * b, pal.fog, 0.42 if scene.time == "night" else 0.60)
    brush.veil(0.55, 0.6, pal.fog, 0.12 if scene.time == "night" else 0.20)


def fog_before(scene: Scene, lay: Layout, pal: Palette, brush: Brush) -> None:
    """A thin band over the subject's foot and one over the picture's lower edge."""
    if scene.weather == "fog":
        brush.veil(min(1.0, lay.subject_base + 0.06), 0.06, pal.fog, 0.55)


def fall(scene: Scene, lay: Layout, pal: Palette, brush: Brush) -> None:
    """Rain or snow over everything, thinned out in front of the subject."""
    if scene.weather == "rain":
        tone = mix(pal.sky[2], (236, 242, 252), 0.72)
        lean = 0.02 + 0.035 * lay.hue
        for k, (a, b, c) in enumerate(lay.drops):
            x, y, n = (k % 6 + a) / 6, (k // 6 + b) / 5, 0.055 + 0.045 * c
            if not _hits_subject(lay, x, y) or k % 4 == 0:
                brush.line([(x, y - n / 2), (x - lean * n / 0.08, y + n / 2)], tone, 0.0115, 0.70)
    elif scene.weather == "snow":
        tone = (255, 255, 255) if scene.time != "night" else (224, 230, 252)
        for k, (a, b, c) in enumerate(lay.drops):
            x, y, r = (k % 6 + a) / 6, (k // 6 + b) / 5, 0.0085 + 0.009 * c
            if not _hits_subject(lay, x, y):
                brush.oval(x, y, r, r, tone, 0.95)
