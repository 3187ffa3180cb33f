"""A database that is busy or away: borne for a while, and not for ever."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from storage import patience
from storage.errors import DatabaseAway, DatabaseBusy, StaleAttempt
from storage.patience import Patience, persisting


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time as a list of one number, which sleeping moves on."""
    now = [100.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    stand_in = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    monkeypatch.setattr(patience, "time", stand_in)
    return now


def test_what_fails_for_a_while_is_borne(clock: list[float]) -> None:
    bears = Patience()
    for seconds in (0, 30, 60, 90):
        clock[0] = 100.0 + seconds
        with bears.bearing():
            if seconds == 60:
                continue
            raise DatabaseBusy("The database is busy.")
    clock[0] += patience.PATIENCE_S + 1
    with pytest.raises(DatabaseAway), bears.bearing():
        raise DatabaseAway("The database is away.")


def test_what_does_not_pass_is_told_at_once(clock: list[float]) -> None:
    with pytest.raises(StaleAttempt), Patience().bearing():
        raise StaleAttempt("Another process has taken over.")


def test_it_is_tried_again_until_it_is_done(clock: list[float]) -> None:
    tries: list[float] = []

    @persisting
    def write(until: float) -> str:
        tries.append(clock[0])
        if clock[0] < until:
            raise DatabaseAway("The database is away.")
        return "done"

    assert write(103.0) == "done"
    assert tries == [100.0, 101.0, 102.0, 103.0]
    with pytest.raises(DatabaseAway):
        write(1000.0)
    assert clock[0] == pytest.approx(103.0 + patience.PATIENCE_S, abs=2)
