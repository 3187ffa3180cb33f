"""Win rates, intervals and verdicts against values known from elsewhere."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from functools import cache

import pytest

from inpo_studio.evaluation.statistics import (
    Tally,
    Test,
    anytime_interval,
    anytime_verdict,
    e_value,
    sentence,
    sign_test,
    tally,
    verdict,
    win_rate_interval,
    wins_needed,
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


def mixture_by_integration(wins: int, losses: int) -> Fraction:
    """The integral of 2 p^k (1 - p)^(n - k) / (1/2)^n from 1/2 to 1, term by term, exactly."""
    total = Fraction(0)
    for j in range(losses + 1):
        power = wins + j + 1
        term = Fraction((-1) ** j * math.comb(losses, j), power)
        total += term * (1 - Fraction(1, 2) ** power)
    return total * 2 * 2 ** (wins + losses)


@pytest.mark.parametrize("decided", [0, 1, 2, 7, 30])
def test_e_value_is_the_mixture_it_is_said_to_be(decided: int) -> None:
    for wins in range(decided + 1):
        exact = mixture_by_integration(wins, decided - wins)
        assert e_value(Tally(wins, decided - wins, 3)) == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize("decided", [1, 6, 15])
def test_e_value_is_expected_to_stay_one_between_equals(decided: int) -> None:
    expected = sum(
        math.comb(decided, wins) * mixture_by_integration(wins, decided - wins)
        for wins in range(decided + 1)
    )
    assert expected == 2**decided
    for wins in range(decided):  # and so it is from every state on
        losses = decided - wins
        after = mixture_by_integration(wins + 1, losses) + mixture_by_integration(wins, losses + 1)
        assert after == 2 * mixture_by_integration(wins, losses)


@cache
def anytime_wins_needed(decided: int) -> int:
    """Fewest wins of so many decided votes with which the anytime-valid test says "better"."""
    wins = range(decided + 1)
    enough = (k for k in wins if anytime_verdict(Tally(k, decided - k)) == "better")
    return next(enough, decided + 1)


def ever_reached(most: int, chance: float, before: dict[tuple[int, int], float]) -> float:
    """Chance that "better" is ever said up to `most` decided votes with a look after each."""
    reached, alive = 0.0, dict(before)
    while alive:
        later: dict[tuple[int, int], float] = {}
        for (wins, losses), mass in alive.items():
            if wins >= anytime_wins_needed(wins + losses):
                reached += mass
            elif wins + losses < most:
                for step, part in (((1, 0), chance), ((0, 1), 1 - chance)):
                    state = (wins + step[0], losses + step[1])
                    later[state] = later.get(state, 0.0) + mass * part
        alive = later
    return reached


def test_looking_after_every_vote_keeps_the_error_rate() -> None:
    error = ever_reached(200, 0.5, {(0, 0): 1.0})
    assert error == pytest.approx(0.0154, abs=1e-4)
    assert ever_reached(200, 0.45, {(0, 0): 1.0}) < error
    assert ever_reached(100, 0.75, {(0, 0): 1.0}) > 0.98


def test_how_many_wins_the_anytime_test_needs() -> None:
    needed = {8: 8, 9: 9, 10: 10, 20: 17, 30: 24, 40: 30, 50: 36, 100: 66}
    assert {decided: anytime_wins_needed(decided) for decided in needed} == needed
    assert all(anytime_wins_needed(decided) > decided for decided in range(8))


def test_the_sign_test_would_not_keep_it() -> None:
    """Shows that the test above can fail: with peeking the exact test errs far too often."""
    random_ = random.Random(5)
    needed = [wins_needed(decided) or 1000 for decided in range(151)]
    wrong = 0
    for _ in range(400):
        wins, reached = 0, False
        for decided in range(1, 151):
            wins += random_.random() < 0.5
            reached = reached or wins >= needed[decided]
        wrong += reached
    assert wrong / 400 > 0.06


def test_simulated_peeking_with_ties_keeps_the_error_rate() -> None:
    random_ = random.Random(7)
    interval = cache(anytime_interval)
    trials, better, worse, outside = 800, 0, 0, 0
    for _ in range(trials):
        wins = losses = ties = 0
        said: set[str] = set()
        left_out = False
        for _ in range(80):
            drawn = random_.random()
            if drawn < 0.2:
                ties += 1
            elif drawn < 0.6:
                wins += 1
            else:
                losses += 1
            if wins >= anytime_wins_needed(wins + losses):
                said.add("better")
            if losses >= anytime_wins_needed(wins + losses):
                said.add("worse")
            low, high = interval(Tally(wins, losses, ties))
            left_out = left_out or not low <= 0.5 <= high
        better += "better" in said
        worse += "worse" in said
        outside += left_out
    slack = 3 * math.sqrt(0.025 * 0.975 / trials)
    assert better / trials <= 0.025 + slack
    assert worse / trials <= 0.025 + slack
    assert outside / trials <= 0.05 + slack


def test_going_on_after_the_planned_look_costs_little() -> None:
    """Both tests together: the exact one at 30 votes, then a look after every further vote."""
    at_30 = {(k, 30 - k): math.comb(30, k) / 2**30 for k in range(31)}
    exact = sum(
        m for (wins, losses), m in at_30.items() if verdict(Tally(wins, losses)) == "better"
    )
    unsure = {s: m for s, m in at_30.items() if verdict(Tally(*s)) != "better"}
    assert exact == pytest.approx(0.0214, abs=1e-4)
    assert exact + ever_reached(100, 0.5, unsure) == pytest.approx(0.0234, abs=1e-4)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (Tally(21, 9), "can't tell yet"),
        (Tally(24, 6), "better"),
        (Tally(6, 24), "worse"),
        (Tally(9, 0), "better"),
        (Tally(6, 0), "can't tell yet"),
        (Tally(0, 0, 9), "can't tell yet"),
        (Tally(2000, 0), "better"),
    ],
)
def test_the_anytime_verdict_wants_more_evidence(counts: Tally, said: str) -> None:
    assert anytime_verdict(counts) == said
    assert (e_value(counts) >= 40) is (said == "better")


def test_anytime_interval_is_wider_mirrors_and_holds_the_estimate() -> None:
    for counts in (Tally(21, 9), Tally(5, 5, 10), Tally(30, 0), Tally(0, 4), Tally(0, 0, 3)):
        low, high = anytime_interval(counts)
        assert 0 <= low <= counts.win_rate <= high <= 1
        mirrored = anytime_interval(Tally(counts.losses, counts.wins, counts.ties))
        assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)
        fixed = win_rate_interval(counts)
        if counts.wins and counts.losses:
            assert low < fixed[0] < fixed[1] < high
    with pytest.raises(ValueError, match="judge some first"):
        anytime_interval(Tally(0, 0))


def test_wins_needed() -> None:
    assert [wins_needed(n) for n in (0, 5, 6, 10, 20, 30, 50)] == [None, None, 6, 9, 15, 21, 33]


@pytest.mark.parametrize(
    ("counts", "test", "begins", "holds"),
    [
        (Tally(21, 9), "exact", "Round 2 is better than the base model", "2.1 %"),
        (Tally(9, 21), "exact", "Round 2 is worse than the base model", "2.1 %"),
        (Tally(20, 10), "exact", "Can't tell yet", "4.9 %"),
        (Tally(30, 0), "exact", "Round 2 is better", "less than 0.1 %"),
        (Tally(24, 6), "anytime", "Round 2 is better", "to 1"),
        (Tally(21, 9), "anytime", "Can't tell yet", "40 to 1 decides"),
        (Tally(0, 0, 4), "exact", "Can't tell yet", "no vote was decided"),
    ],
)
def test_the_sentence_is_one_and_says_which_way(
    counts: Tally, test: Test, begins: str, holds: str
) -> None:
    said = sentence(counts, test, "Round 2", "the base model")
    assert said.startswith(begins)
    assert holds in said
    assert said.endswith(".")
    assert said.replace("2.5", "").replace("0.1", "").count(". ") == 0
