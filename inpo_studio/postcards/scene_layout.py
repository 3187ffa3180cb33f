"""Layout: everything a caption leaves open, drawn from the scene's seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .scene_words import Scene

# Height range and width (in heights) of each subject; heights are shares of the picture's height.
_SIZES: dict[str, tuple[float, float, float]] = {
    "house": (0.29, 0.40, 1.25),
    "sailboat": (0.34, 0.48, 0.90),
    "hot air balloon": (0.36, 0.48, 0.72),
    "lighthouse": (0.40, 0.50, 0.46),
    "tree": (0.36, 0.48, 0.84),
    "tent": (0.28, 0.36, 1.60),
    "windmill": (0.38, 0.50, 0.80),
    "van": (0.28, 0.33, 1.75),
}
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Layout:
    """The free variables of a postcard. Lengths are shares of the picture side; y grows down.

    Triples hold uniform numbers in 0..1 that painters read as position, size and kind.
    """

    horizon: float
    light_x: float
    light_y: float
    light_radius: float
    crescent: bool
    subject_x: float
    subject_base: float
    subject_height: float
    subject_width: float
    facing: int
    spin: float
    hue: float
    warmth: float
    brightness: float
    saturation: float
    variant: int
    clouds: tuple[Triple, ...]
    birds: tuple[Triple, ...]
    flora: tuple[Triple, ...]
    stars: tuple[Triple, ...]
    drops: tuple[Triple, ...]
    peaks: tuple[Triple, ...]
    blocks: tuple[Triple, ...]
    ridges: tuple[Triple, ...]


def _triples(u: np.ndarray, start: int, count: int) -> tuple[Triple, ...]:
    rows = u[start : start + 3 * count].reshape(count, 3).tolist()
    return tuple((float(a), float(b), float(c)) for a, b, c in rows)


def _light(scene: Scene, horizon: float, ux: float, uy: float) -> tuple[float, float]:
    """Where the sun or moon stands: low at dawn and sunset, high at noon, anywhere at night."""
    x = 0.08 + 0.84 * ux
    if scene.time == "noon":
        return x, 0.09 + 0.15 * uy
    if scene.time == "night":
        return x, 0.10 + 0.20 * uy
    lift = (0.02 + 0.16 * uy) if scene.place in ("sea", "meadow", "desert") else (0.14 + 0.16 * uy)
    return x, horizon - lift


def _stand(scene: Scene, horizon: float, height: float, u: float) -> float:
    """The y of the subject's foot (or the basket's, in the air)."""
    if scene.subject == "hot air balloon":
        return height + 0.05 + (0.86 - height - 0.05) * (0.10 + 0.65 * u)
    low = max(horizon + 0.10, height + 0.06)
    return low + (0.92 - low) * (0.08 + 0.84 * u)


def layout(scene: Scene) -> Layout:
    """Draw the layout from the scene's seed; the colour has no say in it."""
    u = np.random.Generator(np.random.PCG64(scene.seed)).random(480)
    low, high, aspect = _SIZES[scene.subject]
    height = low + (high - low) * float(u[0])
    width = height * aspect
    horizon = 0.44 + 0.22 * float(u[1])
    light_x, light_y = _light(scene, horizon, float(u[2]), float(u[3]))
    margin = width / 2 + 0.03
    return Layout(
        horizon=horizon,
        light_x=light_x,
        light_y=light_y,
        light_radius=0.042 + 0.075 * float(u[4]),
        crescent=bool(u[5] < 0.45),
        subject_x=margin + (1 - 2 * margin) * float(u[6]),
        subject_base=_stand(scene, horizon, height, float(u[7])),
        subject_height=height,
        subject_width=width,
        facing=1 if u[8] < 0.5 else -1,
        spin=float(u[9]),
        hue=2 * float(u[10]) - 1,
        warmth=2 * float(u[11]) - 1,
        brightness=0.94 + 0.14 * float(u[12]),
        saturation=0.80 + 0.42 * float(u[13]),
        variant=int(u[14] * 6),
        clouds=_triples(u, 20, 3 + int(u[15] * 3)),
        birds=_triples(u, 40, int(u[16] * 6)),
        flora=_triples(u, 60, 10 + int(u[17] * 16)),
        stars=_triples(u, 140, 14 + int(u[18] * 14)),
        drops=_triples(u, 230, 30),
        peaks=_triples(u, 330, 6),
        blocks=_triples(u, 350, 26),
        ridges=_triples(u, 430, 12),
    )
