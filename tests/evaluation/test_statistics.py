"""Win rates, intervals and verdicts against values known from elsewhere."""

from __future__ import annotations

import math

import pytest

from inpo_studio.evaluation.statistics import (
    Tally,
    sign_test,
    tally,
    verdict,
    win_rate_interval,
)


def test_ties_count_half() -> None:
    assert Tally(3, 1, 4).win_rate == 5 / 8
    assert math.isnan(Tally(0, 0).win_rate)


def test_tally_uses_the_tolerance() -> None:
    scores = [(0.0, 1.0), (1.0, 0.0), (0.5, 0.55), (0.2, 0.2)]
    assert tally(scores) == Tally(2, 1, 1)
    assert tally(scores, tolerance=0.1) == Tally(1, 1, 2)


def test_verdict_needs_21_of_30() -> None:
    assert verdict(Tally(21, 9)) == "better"
    assert verdict(Tally(20, 10)) == "can't tell yet"
    assert verdict(Tally(9, 21)) == "worse"
    assert verdict(Tally(0, 0, 5)) == "can't tell yet"


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [(21, 9, 0.02138697), (5, 0, 1 / 32), (0, 0, 1.0), (0, 3, 1.0)],
)
def test_sign_test_is_the_binomial_tail(wins: int, losses: int, p: float) -> None:
    assert sign_test(Tally(wins, losses)) == pytest.approx(p, abs=1e-7)


def test_interval_matches_tangos_published_example() -> None:
    # Tango (1998): 43 pairs with discordant counts 1 and 0 give (-0.0608, 0.1213).
    low, high = win_rate_interval(Tally(1, 0, 42))
    assert (2 * low - 1, 2 * high - 1) == pytest.approx((-0.0608, 0.1214), abs=2e-3)


@pytest.mark.parametrize("counts", [Tally(48, 0), Tally(0, 48), Tally(30, 10, 8), Tally(1, 0)])
def test_interval_holds_the_estimate_and_stays_in_range(counts: Tally) -> None:
    low, high = win_rate_interval(counts)
    assert 0 <= low <= counts.win_rate <= high <= 1


def test_interval_mirrors_when_sides_swap() -> None:
    low, high = win_rate_interval(Tally(30, 10, 8))
    other_low, other_high = win_rate_interval(Tally(10, 30, 8))
    assert (low, high) == pytest.approx((1 - other_high, 1 - other_low), abs=1e-9)


def test_no_comparisons_is_refused() -> None:
    with pytest.raises(ValueError, match="judge some first"):
        win_rate_interval(Tally(0, 0))
