"""What a training reports where its database is busy or away for a moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from inpo_studio.studio import open_studio
from inpo_studio.training.ledger import Ledger
from inpo_studio.training.records import StepRecord
from storage import engines, patience
from storage.errors import DatabaseAway, StaleAttempt
from storage.metrics import list_metrics
from storage.rounds import claim_attempt, get_round
from tests.jobs.support import settings_in, with_choices


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """That of the first attempt at a round; nothing waits long for anything."""
    monkeypatch.setattr(engines, "BUSY_TIMEOUT_MILLISECONDS", 50)
    monkeypatch.setattr(patience, "TRY_AGAIN_S", 0.01)
    settings = settings_in(tmp_path / "workspace")
    studio = open_studio(settings)
    made = with_choices(studio)
    with studio.database.write() as session:
        attempt = claim_attempt(session, made.id)
    studio.close()
    opened = Ledger.open(settings, made.id, attempt)
    yield opened
    opened.close()


def record(step: int) -> StepRecord:
    return StepRecord(**{**{field.name: 0.5 for field in fields(StepRecord)}, "step": step})  # type: ignore[arg-type]


def steps(ledger: Ledger) -> list[int]:
    with ledger.database.read() as session:
        return [metric.step for metric in list_metrics(session, ledger.round_id)]


@contextmanager
def away() -> Iterator[Any]:
    raise DatabaseAway("The database cannot be reached.")
    yield


def test_what_cannot_be_written_now_is_written_the_next_time(ledger: Ledger) -> None:
    with ledger.database.write():  # as another program that holds the lock for long
        ledger.on_step(record(1))
        ledger.on_step(record(2))
        ledger.flush()
    assert steps(ledger) == []
    ledger.on_step(record(3))
    ledger.flush()
    assert steps(ledger) == [1, 2, 3]
    with ledger.database.read() as session:
        assert get_round(session, ledger.round_id).step == 3


def test_what_cannot_be_read_is_no_news(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger.database, "read", away)
    assert ledger.request() is None
    monkeypatch.setattr(patience, "PATIENCE_S", -1.0)
    with pytest.raises(DatabaseAway):
        ledger.request()


def test_what_cannot_be_left_out_is_waited_for(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, tries = ledger.database.write, iter([away, away])
    monkeypatch.setattr(ledger.database, "write", lambda: next(tries, write)())
    ledger.on_step(record(1))
    ledger.flush_all()
    assert steps(ledger) == [1]


def test_an_attempt_that_was_taken_over_ends_at_once(ledger: Ledger) -> None:
    with ledger.database.write() as session:
        claim_attempt(session, ledger.round_id)
    ledger.on_step(record(1))
    for write in (ledger.flush, ledger.flush_all, lambda: ledger.stage("train")):
        ledger.on_step(record(2))
        with pytest.raises(StaleAttempt):
            write()
