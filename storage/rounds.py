"""Rounds: made, asked to pause, cancel or finish, claimed by an attempt, and ended.

Every change is an UPDATE guarded by the state (and attempt) it starts from, so that of two
processes that want to change a round one sees that it came too late.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import CursorResult, select, update
from sqlalchemy.orm import Session

from storage.checks import checked_seed, get_row, next_number
from storage.errors import IllegalTransition, InvalidInput, StaleAttempt
from storage.frozen import freeze_choices, round_pairs
from storage.schema import Adapter, Round, RoundRequest, RoundStage, RoundState, new_id, utc_now
from storage.transitions import ENDED, KEEPABLE, REQUESTS, SETTLED, TRANSITIONS, WORKED_ON

__all__ = [
    "IMPORTED",
    "begins_elsewhere",
    "claim_attempt",
    "create_round",
    "freeze_choices",
    "get_round",
    "list_rounds",
    "request",
    "resume",
    "round_pairs",
    "set_job",
    "set_state",
    "update_progress",
    "use_adapter",
    "write_as_attempt",
]

IMPORTED = "imported"
"""What the selection of a round says of an adapter that was never trained here."""


def create_round(
    session: Session,
    *,
    model: str,
    config: dict[str, Any],
    seed: int,
    parent_id: str | None = None,
    total_steps: int = 0,
    job_id: str | None = None,
    selection: dict[str, Any] | None = None,
    round_id: str | None = None,
) -> Round:
    """A queued round with the next number of the workspace.

    `selection` says which choices it will freeze (`storage.frozen`); None is all. With a
    `round_id` that exists already the stored row is returned. Raises InvalidInput unless the
    parent is done, has an adapter and is of the same model.
    """
    round_id = round_id or new_id()
    stored = session.get(Round, round_id)
    if stored is not None:
        return stored
    if parent_id is not None:
        parent = get_round(session, parent_id)
        if parent.model != model:
            raise InvalidInput(f"Round {parent.number} is of another model; choose one of {model}.")
        if parent.state != "done" or parent.adapter_id is None:
            raise InvalidInput(f"Round {parent.number} has no adapter to start from; finish it.")
    row = Round(
        id=round_id,
        number=next_number(session, Round.number),
        model=model,
        parent_id=parent_id,
        config=config,
        selection=selection,
        seed=checked_seed(seed),
        state="queued",
        total_steps=total_steps,
        job_id=job_id,
    )
    session.add(row)
    session.flush()
    return row


def get_round(session: Session, round_id: str) -> Round:
    """The round with this id; NotFound if there is none."""
    return get_row(session, Round, round_id)


def begins_elsewhere(session: Session, row: Round) -> bool:
    """Whether the line of a round's parents begins with an adapter that was imported."""
    while row.parent_id is not None:
        row = get_round(session, row.parent_id)
    return IMPORTED in (row.selection or {})


def list_rounds(
    session: Session, model: str | None = None, state: RoundState | None = None
) -> list[Round]:
    """All rounds, or those of one model or state, by number."""
    query = select(Round).order_by(Round.number)
    if model is not None:
        query = query.where(Round.model == model)
    if state is not None:
        query = query.where(Round.state == state)
    return list(session.scalars(query))


def request(session: Session, round_id: str, what: RoundRequest) -> Round:
    """Ask a round to pause, cancel or finish now; asking twice changes nothing.

    A round at work takes the wish up at its next optimiser step; one that is queued, paused
    or failed changes at once. Raises IllegalTransition where the wish makes no sense.
    """
    row = get_round(session, round_id)
    new = REQUESTS[what].get(row.state)
    if new is None:
        raise IllegalTransition(f"Round {row.number} is {row.state}; it cannot {what} now.")
    if new != row.state:
        _change(session, row, new, None, requested=what if new in WORKED_ON else None)
    return row


def resume(session: Session, round_id: str, *, job_id: str | None = None) -> Round:
    """Queue a paused or failed round again; it goes on from its last checkpoint."""
    row = get_round(session, round_id)
    if row.state not in ("paused", "failed"):
        raise IllegalTransition(f"Round {row.number} is {row.state}; there is nothing to resume.")
    _change(session, row, "queued", None, job_id=job_id or row.job_id)
    return row


def use_adapter(session: Session, round_id: str, adapter_id: str) -> Round:
    """Use a round with weights it had at another step; one that stopped early becomes done.

    Raises InvalidInput for weights of another round, IllegalTransition while it is worked on and
    while a round that starts from its present weights may still train.
    """
    row = get_round(session, round_id)
    adapter = get_row(session, Adapter, adapter_id)
    if adapter.round_id != round_id:
        raise InvalidInput(f"These weights are not of round {row.number}; choose one of its own.")
    if row.state not in KEEPABLE:
        raise IllegalTransition(f"Round {row.number} is {row.state}; wait until it rests.")
    if adapter_id != row.adapter_id:
        _refuse_while_needed(session, row)
    _guarded_update(
        session,
        row,
        None,
        state="done",
        adapter_id=adapter_id,
        failure=None,
        requested=None,
        ended_at=row.ended_at or utc_now(),
    )
    return row


def _refuse_while_needed(session: Session, row: Round) -> None:
    """Whenever a round goes on it reads its parent's weights anew, and must find the same ones."""
    open_children = select(Round).where(Round.parent_id == row.id, Round.state.not_in(SETTLED))
    child = session.scalar(open_children.order_by(Round.number).limit(1))
    if child is not None:
        raise IllegalTransition(
            f"Round {child.number}, which trains from the present weights of round {row.number}, "
            f"is {child.state}; let it end or cancel it first."
        )


def claim_attempt(session: Session, round_id: str) -> int:
    """Take a round to work on it; returns the number to fence all further writes with.

    A queued round becomes running. A round left at work by a process that died keeps its
    state and wishes. Earlier attempts cannot write from now on. Raises IllegalTransition if
    the round is paused or has ended.
    """
    row = get_round(session, round_id)
    if row.state != "queued" and row.state not in WORKED_ON:
        raise IllegalTransition(f"Round {row.number} is {row.state}; it cannot be worked on.")
    state: RoundState = "running" if row.state == "queued" else row.state
    _guarded_update(
        session,
        row,
        None,
        state=state,
        attempt=row.attempt + 1,
        started_at=row.started_at or utc_now(),
    )
    return row.attempt


def write_as_attempt(session: Session, round_id: str, attempt: int) -> Round:
    """The round, locked for this write; StaleAttempt if another attempt owns it or it ended.

    Call it first in every transaction that writes for a round.
    """
    row = get_round(session, round_id)
    session.refresh(row)
    if row.state not in WORKED_ON:
        raise StaleAttempt(f"Round {row.number} is {row.state}; this process must stop writing.")
    _guarded_update(session, row, attempt, attempt=attempt)
    return row


def update_progress(
    session: Session,
    round_id: str,
    attempt: int,
    *,
    stage: RoundStage | None = None,
    step: int | None = None,
    total_steps: int | None = None,
) -> Round:
    """Say how far the attempt is; what is None stays. Raises StaleAttempt."""
    row = write_as_attempt(session, round_id, attempt)
    row.stage = stage or row.stage
    row.step = row.step if step is None else step
    row.total_steps = row.total_steps if total_steps is None else total_steps
    session.flush()
    return row


def set_job(session: Session, round_id: str, job_id: str) -> None:
    """Note which job works on the round."""
    get_round(session, round_id).job_id = job_id
    session.flush()


def set_state(
    session: Session,
    round_id: str,
    state: RoundState,
    *,
    attempt: int | None = None,
    failure: str | None = None,
) -> Round:
    """Move a round to `state`, along TRANSITIONS; the same state again changes nothing.

    `attempt` fences the change (StaleAttempt); `failure` says in one sentence why it failed.
    A round that pauses or ends has no wish left. Raises IllegalTransition.
    """
    row = get_round(session, round_id)
    session.refresh(row)
    if attempt is not None and row.attempt != attempt:
        raise StaleAttempt(f"Round {row.number} was taken over; this process must stop writing.")
    if row.state != state:
        _change(session, row, state, attempt, failure=failure)
    return row


def _change(
    session: Session, row: Round, state: RoundState, attempt: int | None, **values: Any
) -> None:
    if state not in TRANSITIONS[row.state]:
        raise IllegalTransition(f"Round {row.number} is {row.state}; it cannot become {state}.")
    if state not in WORKED_ON:
        values["requested"] = None
    values["ended_at"] = utc_now() if state in ENDED else None
    values.setdefault("failure", None)
    _guarded_update(session, row, attempt, state=state, **values)


def _guarded_update(session: Session, row: Round, fence: int | None, **values: Any) -> None:
    query = update(Round).where(Round.id == row.id, Round.state == row.state)
    if fence is not None:
        query = query.where(Round.attempt == fence)
    changed: CursorResult[Any] = session.execute(  # type: ignore[assignment]
        query.values(**values).execution_options(synchronize_session=False)
    )
    if changed.rowcount != 1:
        raise StaleAttempt(
            f"Round {row.number} was changed by another process; read it again before going on."
        )
    session.refresh(row)
