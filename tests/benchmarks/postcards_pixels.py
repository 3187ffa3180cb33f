"""Pixel statistics that tell whether a postcard says what its prompt says, with no model at all.

Each check makes two pictures at one seed whose prompts differ in one attribute, and asks a plain
statistic which is which. Nothing here shares code or data with the classifier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from inpo_studio.postcards.scenes import Scene

Picture = NDArray[np.float64]
"""``(h, w, 3)`` in [0, 1]."""


def luminance(picture: Picture) -> float:
    return float((picture @ np.array([0.2126, 0.7152, 0.0722])).mean())


def warmth(picture: Picture) -> float:
    """Mean of red minus blue."""
    return float((picture[..., 0] - picture[..., 2]).mean())


def greenness(picture: Picture) -> float:
    """Mean of green minus the mean of red and blue."""
    return float((picture[..., 1] - 0.5 * (picture[..., 0] + picture[..., 2])).mean())


def lower_blueness(picture: Picture) -> float:
    """Mean of blue minus red in the lower third."""
    lower = picture[2 * len(picture) // 3 :]
    return float((lower[..., 2] - lower[..., 0]).mean())


def contrast(picture: Picture) -> float:
    return float((picture @ np.array([0.2126, 0.7152, 0.0722])).std())


def redness_at_most(picture: Picture) -> float:
    """Red minus blue in the reddest 3 % of pixels."""
    return float(
        np.sort((picture[..., 0] - picture[..., 2]).ravel())[-picture[..., 0].size // 33 :].mean()
    )


def greenness_at_most(picture: Picture) -> float:
    """Green minus the larger of red and blue in the greenest 3 % of pixels."""
    excess = picture[..., 1] - np.maximum(picture[..., 0], picture[..., 2])
    return float(np.sort(excess.ravel())[-excess.size // 33 :].mean())


def specks(picture: Picture) -> float:
    """Mean absolute second difference in the upper half: flakes and streaks have much of it."""
    grey = picture[: len(picture) // 2] @ np.array([0.2126, 0.7152, 0.0722])
    return float(np.abs(np.diff(grey, n=2, axis=1)).mean())


def whiteness(picture: Picture) -> float:
    """Share of near-white pixels in the lower half."""
    lower = picture[len(picture) // 2 :]
    return float((lower.min(axis=2) > 0.72).mean())


@dataclass(frozen=True)
class Check:
    """``statistic`` is larger for ``more`` than for ``less`` values of ``attribute``."""

    attribute: str
    more: str
    less: str
    statistic: Callable[[Picture], float]
    fixed: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        return f"{self.attribute}: {self.more} > {self.less} in {self.statistic.__name__}"

    def scenes(self, scene: Scene) -> tuple[Scene, Scene]:
        """The two scenes to compare, made from ``scene``."""
        base = replace(scene, **dict(self.fixed))
        return replace(base, **{self.attribute: self.more}), replace(
            base, **{self.attribute: self.less}
        )

    def holds(self, more: Picture, less: Picture) -> bool:
        return self.statistic(more) > self.statistic(less)


CHECKS = (
    Check("time", "noon", "night", luminance),
    Check("time", "dawn", "night", luminance),
    Check("time", "sunset", "noon", warmth, (("weather", "clear"),)),
    Check("time", "sunset", "dawn", warmth, (("weather", "clear"),)),
    Check("colour", "red", "blue", redness_at_most, (("time", "noon"),)),
    Check("colour", "green", "purple", greenness_at_most, (("time", "noon"), ("place", "sea"))),
    Check("place", "forest", "sea", greenness, (("time", "noon"), ("weather", "clear"))),
    Check("place", "sea", "desert", lower_blueness, (("time", "noon"), ("weather", "clear"))),
    Check("place", "desert", "meadow", warmth, (("time", "noon"), ("weather", "clear"))),
    Check("weather", "clear", "fog", contrast, (("time", "noon"),)),
    Check("weather", "snow", "clear", whiteness, (("time", "noon"), ("place", "meadow"))),
    Check("weather", "rain", "fog", specks),
)
