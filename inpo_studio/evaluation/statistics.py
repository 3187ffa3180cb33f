"""What paired comparisons say: win rate, its interval, and a verdict. Torch-free.

A comparison is one prompt and seed, rendered by base and by aligned, and judged once: aligned
wins, base wins, or a tie. Ties count half in the win rate and carry no evidence in the test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["better", "worse", "can't tell yet"]

SIGNIFICANCE = 0.025
"""One-sided level of the exact test behind a verdict."""
_Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Tally:
    """Counts over comparisons, from the aligned model's side."""

    wins: int
    losses: int
    ties: int = 0

    def __post_init__(self) -> None:
        if min(self.wins, self.losses, self.ties) < 0:
            raise ValueError("Counts of wins, losses and ties cannot be negative.")

    @property
    def total(self) -> int:
        return self.wins + self.losses + self.ties

    @property
    def win_rate(self) -> float:
        """(wins + ties / 2) / total; NaN without comparisons."""
        return (self.wins + 0.5 * self.ties) / self.total if self.total else math.nan


def tally(scores: Iterable[tuple[float, float]], tolerance: float = 0.0) -> Tally:
    """Count (base score, aligned score) pairs; a difference within ``tolerance`` is a tie."""
    differences = [aligned - base for base, aligned in scores]
    return Tally(
        wins=sum(difference > tolerance for difference in differences),
        losses=sum(difference < -tolerance for difference in differences),
        ties=sum(abs(difference) <= tolerance for difference in differences),
    )


def win_rate_interval(counts: Tally, z: float = _Z_95) -> tuple[float, float]:
    """Score interval of the win rate, ``z`` standard errors wide (95 % by default).

    The win rate is 1/2 + delta/2 with delta = (wins - losses) / total, a difference of paired
    proportions, so this is Tango's score interval (Statistics in Medicine 17, 1998, 891-908):
    all delta with |wins - losses - n delta| <= z sqrt(n (2 q + delta (1 - delta))), where q is
    the restricted maximum-likelihood estimate of the losses' proportion. Without ties it is
    close to Wilson's interval; it never leaves [0, 1].

    Raises ``ValueError`` without comparisons.
    """
    if not counts.total:
        raise ValueError("There is no interval without comparisons: judge some first.")
    delta = (counts.wins - counts.losses) / counts.total

    def excess(candidate: float) -> float:
        return abs(_score(counts, candidate)) - z

    low = -1.0 if excess(-1.0) <= 0 else _bisect(excess, -1.0, delta)
    high = 1.0 if excess(1.0) <= 0 else _bisect(excess, 1.0, delta)
    return 0.5 + 0.5 * low, 0.5 + 0.5 * high


def sign_test(counts: Tally) -> float:
    """Exact one-sided p: chance of at least this many wins if both sides were equally good.

    Ties are left out; p is 1 when nothing was decided.
    """
    decided = counts.wins + counts.losses
    at_least = sum(math.comb(decided, k) for k in range(counts.wins, decided + 1))
    return at_least / 2**decided


def verdict(counts: Tally) -> Verdict:
    """ "better" or "worse" where the exact one-sided test is at 2.5 % or less (21 of 30)."""
    if sign_test(counts) <= SIGNIFICANCE:
        return "better"
    if sign_test(Tally(counts.losses, counts.wins, counts.ties)) <= SIGNIFICANCE:
        return "worse"
    return "can't tell yet"


def _score(counts: Tally, delta: float) -> float:
    """Tango's score statistic at ``delta``; zero where the data meet the hypothesis exactly."""
    n, wins, losses = counts.total, counts.wins, counts.losses
    # Restricted MLE of the losses' proportion q: the larger root of 2n q^2 + B q + C = 0.
    b = -wins - losses + (2 * n - wins + losses) * delta
    c = -losses * delta * (1 - delta)
    q = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
    variance = n * (2 * q + delta * (1 - delta))
    difference = wins - losses - n * delta
    if variance <= 0:
        return 0.0 if abs(difference) < 1e-12 else math.copysign(math.inf, difference)
    return difference / math.sqrt(variance)


def _bisect(excess: Callable[[float], float], outside: float, inside: float) -> float:
    """The boundary between ``outside`` (excess > 0) and ``inside`` (excess <= 0)."""
    for _ in range(60):
        middle = 0.5 * (outside + inside)
        if excess(middle) > 0:
            outside = middle
        else:
            inside = middle
    return inside
