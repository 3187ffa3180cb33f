"""What paired comparisons say: win rate, its interval, and a verdict. Torch-free.

A comparison is one prompt and seed, rendered by base and by aligned, and judged once: aligned
wins, base wins, or a tie. Ties count half in the win rate and carry no evidence in the tests.

Two tests stand behind a verdict. The exact sign test holds where the number of votes was fixed
beforehand. Whoever looks earlier, or goes on after a look, needs one that holds at every moment:
the e-value below (H. Robbins, Annals of Mathematical Statistics 41, 1970, 1397-1409; A. Ramdas,
P. Grünwald, V. Vovk, G. Shafer, Statistical Science 38, 2023, 576-601).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["better", "worse", "can't tell yet"]
Test = Literal["exact", "anytime"]

SIGNIFICANCE = 0.025
"""One-sided level of both tests behind a verdict."""
EVIDENCE = 40
"""The e-value at which the anytime-valid test decides, 1 / SIGNIFICANCE."""
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
    if sign_test(_mirrored(counts)) <= SIGNIFICANCE:
        return "worse"
    return "can't tell yet"


def wins_needed(decided: int) -> int | None:
    """Fewest wins of so many decided votes that make the exact test say "better"; None if none."""
    for wins in range(decided + 1):
        if sign_test(Tally(wins, decided - wins)) <= SIGNIFICANCE:
            return wins
    return None


def e_value(counts: Tally) -> float:
    """Evidence that aligned is better, valid at every moment: 1 is none, 40 is enough.

    It is the likelihood of the votes so far under a chance p to win that is spread evenly over
    (1/2, 1], divided by that under p = 1/2. With k wins of n decided votes

        E = integral of 2 p^k (1 - p)^(n - k) / (1/2)^n over p from 1/2 to 1
          = 2^(n + 1) B(k + 1, n - k + 1) P(Bin(n + 1, 1/2) <= k)
          = [C(n + 1, 0) + ... + C(n + 1, k)] / ((n + 1) C(n, k)).

    For a chance of 1/2 or less E is a supermartingale that starts at 1, so by Ville's inequality
    the chance that it ever reaches 40, however often one looks, is at most 1/40.
    """
    above, below = _e_fraction(counts)
    try:
        return above / below
    except OverflowError:
        return math.inf


def _e_fraction(counts: Tally) -> tuple[int, int]:
    decided = counts.wins + counts.losses
    above = sum(math.comb(decided + 1, j) for j in range(counts.wins + 1))
    return above, (decided + 1) * math.comb(decided, counts.wins)


def anytime_verdict(counts: Tally) -> Verdict:
    """The verdict of the e-value: it may be asked for after every vote, and votes may be added.

    Each of the two sides errs with a chance of at most 2.5 %. Whoever looks at 30 votes with the
    exact test and then after every vote up to 100 with this one errs with 2.3 % (summed exactly).
    """
    for side, said in ((counts, "better"), (_mirrored(counts), "worse")):
        above, below = _e_fraction(side)
        if above >= EVIDENCE * below:
            return "better" if said == "better" else "worse"
    return "can't tell yet"


def anytime_interval(counts: Tally, level: float = 0.95) -> tuple[float, float]:
    """Interval of the win rate that holds at all moments at once, with a chance of `level`.

    For scores x of 0, 1/2 or 1 with mean m and any p, the weighted means' inequality gives
    (p / m)^x ((1 - p) / (1 - m))^(1 - x) an expectation of at most 1. Averaged over p from 0 to 1,
    the product over N votes with sum s is B(s + 1, N - s + 1) / (m^s (1 - m)^(N - s)): a
    supermartingale. The interval is all m where it is below 1 / (1 - level) (Ville).

    Raises ``ValueError`` without comparisons.
    """
    if not counts.total:
        raise ValueError("There is no interval without comparisons: judge some first.")
    score, missed = counts.wins + 0.5 * counts.ties, counts.losses + 0.5 * counts.ties
    mixture = math.lgamma(score + 1) + math.lgamma(missed + 1) - math.lgamma(counts.total + 2)

    def excess(mean: float) -> float:
        spent = (score * math.log(mean) if score else 0.0) + (
            missed * math.log1p(-mean) if missed else 0.0
        )
        return mixture - spent + math.log(1 - level)

    middle, edge = counts.win_rate, 1e-12
    low = _bisect(excess, edge, middle) if score else 0.0
    high = _bisect(excess, 1 - edge, middle) if missed else 1.0
    return low, high


def sentence(counts: Tally, test: Test, aligned: str, base: str) -> str:
    """What the votes say, in one sentence; `aligned` and `base` are names such as "Round 2"."""
    decided = counts.wins + counts.losses
    said = verdict(counts) if test == "exact" else anytime_verdict(counts)
    share = f"it won {counts.wins} of {decided} decided votes"
    if said == "can't tell yet":
        if not decided:
            return f"Can't tell yet whether {aligned} is better than {base}: no vote was decided."
        share = f"{aligned} won {counts.wins} of {decided} decided votes"
        return f"Can't tell yet: {share}, {_basis(counts, test)}."
    return f"{aligned} is {said} than {base}: {share}, {_basis(counts, test)}."


def _basis(counts: Tally, test: Test) -> str:
    ahead = counts if counts.wins >= counts.losses else _mirrored(counts)
    if test == "exact":
        return (
            f"and equally good sides would give {'at least' if ahead is counts else 'at most'} "
            f"that many with a chance of {_percent(sign_test(ahead))} (2.5 % or less decides)"
        )
    return f"evidence of {_ratio(e_value(ahead))} to 1 for a difference (40 to 1 decides)"


def _percent(chance: float) -> str:
    return "less than 0.1 %" if chance < 0.001 else f"{100 * chance:.1f} %"


def _ratio(evidence: float) -> str:
    if evidence >= 1000:
        return "more than 1000"
    return f"{evidence:.0f}" if evidence >= 100 else f"{evidence:.1f}"


def _mirrored(counts: Tally) -> Tally:
    """The counts from the other side."""
    return Tally(counts.losses, counts.wins, counts.ties)


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
