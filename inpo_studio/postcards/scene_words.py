"""The words of a postcard: what a scene is made of, and how one is drawn at random."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

SUBJECTS = (
    "house",
    "sailboat",
    "hot air balloon",
    "lighthouse",
    "tree",
    "tent",
    "windmill",
    "van",
)
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
PLACES = ("sea", "mountains", "desert", "forest", "city", "meadow")
TIMES = ("dawn", "noon", "sunset", "night")
WEATHERS = ("clear", "clouds", "snow", "rain", "fog")

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "subject": SUBJECTS,
    "colour": COLOURS,
    "place": PLACES,
    "time": TIMES,
    "weather": WEATHERS,
}

HELD_OUT_SHARE = 0.04


@dataclass(frozen=True)
class Scene:
    """What a caption says (five words) and the seed of all that it does not say.

    Raises ValueError when a word is not in its list or the seed is negative.
    """

    subject: str
    colour: str
    place: str
    time: str
    weather: str
    seed: int

    def __post_init__(self) -> None:
        for name, allowed in ATTRIBUTES.items():
            word = getattr(self, name)
            if word not in allowed:
                raise ValueError(f"{name} {word!r} is unknown: take one of {', '.join(allowed)}.")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} is negative: give a whole number of 0 or more.")

    @property
    def words(self) -> tuple[str, str, str, str, str]:
        """The five attribute words: subject, colour, place, time, weather."""
        return (self.subject, self.colour, self.place, self.time, self.weather)


def random_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene with every attribute uniform and independent, held-out ones included."""
    subject, colour, place, time, weather = (
        allowed[int(rng.integers(len(allowed)))] for allowed in ATTRIBUTES.values()
    )
    return Scene(subject, colour, place, time, weather, int(rng.integers(2**31)))


def held_out(scene: Scene) -> bool:
    """Tell whether the scene's five words belong to the fixed share that training never sees.

    The seed has no say. The share is about 4 % of all 7,680 combinations, chosen by SHA-256
    of the words, so it is the same on every machine.
    """
    digest = hashlib.sha256("|".join(scene.words).encode("ascii")).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32
