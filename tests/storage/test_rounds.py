from __future__ import annotations

from typing import get_args

import pytest

from storage.engines import Database
from storage.errors import IllegalTransition, InvalidInput, NotFound, StaleAttempt
from storage.model_states import adopt_round, adopted_round
from storage.rounds import (
    claim_attempt,
    create_round,
    get_round,
    list_rounds,
    request,
    resume,
    set_job,
    set_state,
    update_progress,
    write_as_attempt,
)
from storage.schema import RoundRequest, RoundState
from storage.transitions import ENDED, REQUESTS, TRANSITIONS, WORKED_ON
from tests.storage.rows import MODEL, a_done_round, a_round, put_in_state

STATES: tuple[RoundState, ...] = get_args(RoundState)


def test_every_change_of_state_is_allowed_or_refused_as_the_table_says(database: Database) -> None:
    with database.write() as session:
        row = a_round(session)
        for old in STATES:
            for new in STATES:
                put_in_state(session, row, old)
                if new == old or new in TRANSITIONS[old]:
                    assert set_state(session, row.id, new).state == new
                else:
                    with pytest.raises(IllegalTransition, match=f"is {old}; it cannot become"):
                        set_state(session, row.id, new)
                    assert row.state == old


def test_every_wish_is_taken_or_refused_as_the_table_says(database: Database) -> None:
    with database.write() as session:
        row = a_round(session)
        for what in get_args(RoundRequest):
            for old in STATES:
                put_in_state(session, row, old)
                new = REQUESTS[what].get(old)
                if new is None:
                    with pytest.raises(IllegalTransition, match=f"it cannot {what} now"):
                        request(session, row.id, what)
                    continue
                assert request(session, row.id, what).state == new
                assert request(session, row.id, what).state == new
                if new != old:
                    assert row.requested == (what if new in WORKED_ON else None)


def test_the_tables_agree() -> None:
    assert set(TRANSITIONS) == set(STATES)
    for moves in REQUESTS.values():
        assert all(new == old or new in TRANSITIONS[old] for old, new in moves.items())
    assert {state for state in STATES if not TRANSITIONS[state]} == {"done", "cancelled"}
    assert not WORKED_ON & ENDED


def test_a_round_from_start_to_end(database: Database) -> None:
    with database.write() as session:
        row = a_round(session, total_steps=60, job_id="job-1")
        assert (row.number, row.state, row.attempt, row.started_at) == (1, "queued", 0, None)
    with database.write() as session:
        attempt = claim_attempt(session, row.id)
        update_progress(session, row.id, attempt, stage="train", step=0)
        update_progress(session, row.id, attempt, step=7)
        request(session, row.id, "pause")
    with database.write() as session:
        row = set_state(session, row.id, "paused", attempt=attempt)
        assert (row.stage, row.step, row.total_steps, row.requested) == ("train", 7, 60, None)
        assert resume(session, row.id, job_id="job-2").job_id == "job-2"
        assert claim_attempt(session, row.id) == 2
        row = set_state(session, row.id, "failed", attempt=2, failure="The loss is not finite.")
        assert row.failure == "The loss is not finite."
        assert row.ended_at is not None
        row = resume(session, row.id)
        assert (row.failure, row.ended_at, row.job_id) == (None, None, "job-2")
        claim_attempt(session, row.id)
        assert set_state(session, row.id, "done", attempt=3).ended_at is not None
    with database.read() as session:
        row = get_round(session, row.id)
        assert row.config == {"beta": 2000.0}
        assert row.started_at is not None
        assert row.ended_at is not None
        assert row.started_at <= row.ended_at


def test_numbers_count_up_in_the_workspace(database: Database) -> None:
    with database.write() as session:
        rows = [a_round(session, model=model) for model in (MODEL, "other", MODEL)]
        assert [row.number for row in rows] == [1, 2, 3]
        assert create_round(
            session, model=MODEL, config={}, seed=0, round_id=rows[0].id
        ) is get_round(session, rows[0].id)
        assert list_rounds(session, MODEL) == [rows[0], rows[2]]
        assert list_rounds(session, state="done") == []
        set_job(session, rows[1].id, "job")
        assert get_round(session, rows[1].id).job_id == "job"


def test_a_later_attempt_fences_the_earlier_one_out(database: Database) -> None:
    with database.write() as session:
        row = a_round(session)
        first = claim_attempt(session, row.id)
    with database.write() as session:
        request(session, row.id, "pause")
        second = claim_attempt(session, row.id)  # the first died, or so it seemed
        assert (second, row.id) == (first + 1, row.id)
        assert (get_round(session, row.id).state, get_round(session, row.id).requested) == (
            "pausing",
            "pause",
        )
    with database.write() as session:
        with pytest.raises(StaleAttempt):
            write_as_attempt(session, row.id, first)
        with pytest.raises(StaleAttempt):
            update_progress(session, row.id, first, step=9)
        with pytest.raises(StaleAttempt, match="must stop"):
            set_state(session, row.id, "done", attempt=first)
        assert write_as_attempt(session, row.id, second).step == 0


@pytest.mark.parametrize("state", sorted(set(STATES) - WORKED_ON))
def test_nothing_is_written_for_a_round_that_nobody_works_on(
    database: Database, state: RoundState
) -> None:
    with database.write() as session:
        row = a_round(session)
        attempt = claim_attempt(session, row.id)
        put_in_state(session, row, state)
        with pytest.raises(StaleAttempt, match="must stop"):
            write_as_attempt(session, row.id, attempt)


@pytest.mark.parametrize("state", ["paused", "done", "failed", "cancelled"])
def test_a_round_that_rests_cannot_be_claimed(database: Database, state: RoundState) -> None:
    with database.write() as session:
        row = a_round(session)
        put_in_state(session, row, state)
        with pytest.raises(IllegalTransition, match="cannot be worked on"):
            claim_attempt(session, row.id)


def test_only_what_was_stopped_can_be_resumed(database: Database) -> None:
    with database.write() as session:
        with pytest.raises(IllegalTransition, match="nothing to resume"):
            resume(session, a_round(session).id)
        with pytest.raises(NotFound):
            resume(session, "none")


def test_a_parent_must_have_an_adapter_of_the_same_model(database: Database) -> None:
    with database.write() as session:
        parent = a_done_round(session)
        assert a_round(session, parent_id=parent.id).parent_id == parent.id
        with pytest.raises(InvalidInput, match="another model"):
            a_round(session, model="other", parent_id=parent.id)
        with pytest.raises(InvalidInput, match="no adapter to start from"):
            a_round(session, parent_id=a_round(session).id)


def test_a_round_is_adopted_and_left_again(database: Database) -> None:
    with database.write() as session:
        row = a_done_round(session)
        assert adopted_round(session, MODEL) is None
        adopt_round(session, MODEL, row.id)
        assert adopted_round(session, MODEL) is row
        adopt_round(session, MODEL, None)
        assert adopted_round(session, MODEL) is None
        with pytest.raises(InvalidInput, match="cannot be adopted"):
            adopt_round(session, MODEL, a_round(session).id)
        with pytest.raises(InvalidInput, match="cannot be adopted"):
            adopt_round(session, "other", row.id)
