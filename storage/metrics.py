"""Metrics of a round by optimiser step."""

from __future__ import annotations

import math
from typing import Any, TypedDict, Unpack

from sqlalchemy import CursorResult, delete, select
from sqlalchemy.orm import Session

from storage.rounds import write_as_attempt
from storage.schema import Metric


class MetricValues(TypedDict, total=False):
    """What can be measured at a step; errors are the policy's minus the reference's."""

    loss: float | None
    train_ranked_right: float | None
    validation_ranked_right: float | None
    margin: float | None
    validation_margin: float | None
    winner_error: float | None
    loser_error: float | None
    gradient_norm: float | None
    learning_rate: float | None
    seconds: float | None


def record_metrics(
    session: Session, round_id: str, attempt: int, step: int, **values: Unpack[MetricValues]
) -> Metric:
    """Store one step's metrics in place of what the step had; StaleAttempt if fenced out.

    What is left out, or is not finite, is stored as null.
    """
    write_as_attempt(session, round_id, attempt)
    numbers: dict[str, Any] = dict.fromkeys(MetricValues.__annotations__)
    numbers.update({name: _finite(value) for name, value in values.items()})
    row = session.merge(Metric(round_id=round_id, step=step, **numbers))
    session.flush()
    return row


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def drop_metrics_after(session: Session, round_id: str, attempt: int, step: int) -> int:
    """Forget the steps after a checkpoint that training goes on from; returns how many."""
    write_as_attempt(session, round_id, attempt)
    gone: CursorResult[Any] = session.execute(  # type: ignore[assignment]
        delete(Metric).where(Metric.round_id == round_id, Metric.step > step)
    )
    return gone.rowcount


def list_metrics(session: Session, round_id: str, *, after_step: int = -1) -> list[Metric]:
    """The metrics of a round in the order of steps, those after `after_step` only."""
    query = select(Metric).where(Metric.round_id == round_id, Metric.step > after_step)
    return list(session.scalars(query.order_by(Metric.step)))


def last_metric(session: Session, round_id: str) -> Metric | None:
    """The metrics of the latest step."""
    query = select(Metric).where(Metric.round_id == round_id).order_by(Metric.step.desc())
    return session.scalar(query.limit(1))
