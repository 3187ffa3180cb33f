"""Captions: a small grammar that says a scene's five attributes in many ways."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .scene_words import Scene

_PLACE = {
    "sea": ("by the sea", "at the seaside", "beside the sea", "near the sea"),
    "mountains": ("in the mountains", "among mountains", "below high mountains"),
    "desert": ("in the desert", "among desert dunes", "in a sandy desert"),
    "forest": ("in the forest", "among forest pines", "in a pine forest"),
    "city": ("in the city", "before a city skyline", "in a big city"),
    "meadow": ("in a meadow", "in a flower meadow", "in a wide meadow"),
}
_TIME = {
    "dawn": ("at dawn", "as dawn breaks", "in the pale light of dawn", "early at dawn"),
    "noon": ("at noon", "in the bright light of noon", "around noon"),
    "sunset": ("at sunset", "in the glow of sunset", "during sunset"),
    "night": ("at night", "in the dark of night", "late at night"),
}
_WEATHER = {
    "clear": ("clear sky", "under a clear sky", "clear weather", "a clear day"),
    "clouds": ("clouds", "clouds in the sky", "under clouds", "with clouds"),
    "snow": ("snow", "snow falling", "in the snow", "light snow"),
    "rain": ("rain", "rain falling", "in the rain", "light rain"),
    "fog": ("fog", "in thick fog", "with drifting fog", "in the fog"),
}
_SUBJECT = ("{c} {s}", "{c} {s}", "{c} coloured {s}", "lone {c} {s}")
_SHAPES = (
    "{n} {p} {t}, {w}",
    "{n} {p} {t}, {w}",
    "{n} {p}, {t}, {w}",
    "{n} {t}, {p}, {w}",
    "{t}, {n} {p}, {w}",
    "{w}, {n} {p} {t}",
    "{p}, {n} {t}, {w}",
    "{p} {t}, {n}, {w}",
    "a postcard of {n} {p} {t}, {w}",
    "{t}, {w}: {n} {p}",
)


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def caption(scene: Scene, rng: np.random.Generator | None = None) -> str:
    """Say a scene in words: lowercase ASCII, all five attributes, never the seed's choices.

    Without `rng` the canonical wording comes back, such as
    "a red house by the sea at sunset, rain"; with it one of several thousand paraphrases that
    vary word order and synonyms.
    """

    def pick(choices: Sequence[str]) -> str:
        return choices[0] if rng is None else choices[int(rng.integers(len(choices)))]

    place = pick(_PLACE[scene.place])
    if scene.place == "sea" and scene.subject == "sailboat":
        place = pick(("on the sea", "sailing the sea", "at sea"))
    if scene.subject == "hot air balloon":
        place = pick((f"over the {scene.place}", f"above the {scene.place}", place))
    weather = pick(_WEATHER[scene.weather])
    if scene.time == "night" and weather == "a clear day":
        weather = "a clear night sky"
    noun = pick(_SUBJECT).format(c=scene.colour, s=scene.subject)
    return pick(_SHAPES).format(n=_article(noun), p=place, t=pick(_TIME[scene.time]), w=weather)
