"""Samples: what a round drew on its way, of fixed prompts and seeds."""

from __future__ import annotations

from typing import Any

from sqlalchemy import CursorResult, delete, select
from sqlalchemy.orm import Session

from storage.checks import checked_seed, get_row
from storage.prompts import get_prompt
from storage.rounds import write_as_attempt
from storage.schema import Sample


def add_sample(
    session: Session,
    *,
    round_id: str,
    attempt: int,
    step: int,
    position: int,
    prompt_id: str,
    seed: int,
    sha256: str,
    width: int,
    height: int,
) -> Sample:
    """Store the picture at `position` after `step` steps (0: before the first).

    One that is there already, from before the round was resumed, is replaced under a new id,
    since what shows pictures may keep them by their id. Raises StaleAttempt if fenced out.
    """
    write_as_attempt(session, round_id, attempt)
    place = (Sample.round_id == round_id, Sample.step == step, Sample.position == position)
    session.execute(delete(Sample).where(*place))
    row = Sample(
        round_id=round_id,
        step=step,
        position=position,
        prompt=get_prompt(session, prompt_id),
        seed=checked_seed(seed),
        sha256=sha256,
        width=width,
        height=height,
    )
    session.add(row)
    session.flush()
    return row


def get_sample(session: Session, sample_id: str) -> Sample:
    """The sample with this id; NotFound if there is none."""
    return get_row(session, Sample, sample_id)


def list_samples(session: Session, round_id: str) -> list[Sample]:
    """The samples of a round by step and position, with their prompts."""
    query = select(Sample).where(Sample.round_id == round_id)
    return list(session.scalars(query.order_by(Sample.step, Sample.position)))


def drop_samples_after(session: Session, round_id: str, attempt: int, step: int) -> int:
    """Forget those beyond a checkpoint that training goes on from; returns how many."""
    write_as_attempt(session, round_id, attempt)
    gone: CursorResult[Any] = session.execute(  # type: ignore[assignment]
        delete(Sample).where(Sample.round_id == round_id, Sample.step > step)
    )
    return gone.rowcount
