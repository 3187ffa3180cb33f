"""What rounds have left behind, read for all rounds of a model at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import and_, func, select, tuple_
from sqlalchemy.orm import Session

from storage.schema import Adapter, Metric, Round, RoundPair, Sample


@dataclass(frozen=True)
class Picture:
    """A sample: the picture of a fixed prompt and seed at a step."""

    id: str
    step: int
    position: int
    prompt: str


@dataclass(frozen=True)
class Counts:
    """Choices that a round froze."""

    train: int
    checked: int
    """Decided ones on validation prompts, which it does not learn from."""


@dataclass(frozen=True)
class Check:
    """What was measured on validation pairs at a step."""

    ranked_right: float | None
    margin: float | None


@dataclass(frozen=True)
class Facts:
    """What the rounds of a model have left behind, each by the round's id."""

    counts: Mapping[str, Counts]
    checks: Mapping[str, Mapping[int, Check]]
    seconds: Mapping[str, float]
    """Time spent on optimiser steps."""
    adapters: Mapping[str, list[Adapter]]
    samples: Mapping[str, list[Picture]]
    """Those of the last step that was drawn."""


def read_facts(session: Session, model: str) -> Facts:
    """Read five tables, each with one query."""
    return Facts(
        counts=counts_of_pairs(session, model),
        checks=_checks(session, model),
        seconds=_seconds(session, model),
        adapters=_adapters(session, model),
        samples=_last_samples(session, model),
    )


def pictures(samples: Sequence[Sample]) -> list[Picture]:
    """Return samples as a page shows them."""
    return [Picture(s.id, s.step, s.position, s.prompt.text) for s in samples]


def counts_of_pairs(session: Session, model: str, round_id: str | None = None) -> dict[str, Counts]:
    """Count what the rounds of a model froze, or one of them."""
    decided = and_(RoundPair.split == "validation", RoundPair.preference > 0.5)
    query = (
        select(
            RoundPair.round_id,
            func.count().filter(RoundPair.split == "train"),
            func.count().filter(decided),
        )
        .join(Round, RoundPair.round_id == Round.id)
        .where(Round.model == model)
        .group_by(RoundPair.round_id)
    )
    if round_id is not None:
        query = query.where(Round.id == round_id)
    return {row[0]: Counts(row[1], row[2]) for row in session.execute(query)}


def _checks(session: Session, model: str) -> dict[str, dict[int, Check]]:
    query = (
        select(
            Metric.round_id, Metric.step, Metric.validation_ranked_right, Metric.validation_margin
        )
        .join(Round, Metric.round_id == Round.id)
        .where(Round.model == model, Metric.validation_margin.is_not(None))
    )
    found: dict[str, dict[int, Check]] = {}
    for round_id, step, ranked_right, margin in session.execute(query):
        found.setdefault(round_id, {})[step] = Check(ranked_right, margin)
    return found


def _seconds(session: Session, model: str) -> dict[str, float]:
    query = (
        select(Metric.round_id, func.sum(Metric.seconds))
        .join(Round, Metric.round_id == Round.id)
        .where(Round.model == model)
        .group_by(Metric.round_id)
    )
    return {row[0]: float(row[1] or 0.0) for row in session.execute(query)}


def _adapters(session: Session, model: str) -> dict[str, list[Adapter]]:
    query = select(Adapter).where(Adapter.model == model, Adapter.round_id.is_not(None))
    found: dict[str, list[Adapter]] = {}
    for adapter in session.scalars(query.order_by(Adapter.step)):
        found.setdefault(str(adapter.round_id), []).append(adapter)
    return found


def _last_samples(session: Session, model: str) -> dict[str, list[Picture]]:
    last = (
        select(Sample.round_id, func.max(Sample.step))
        .join(Round, Sample.round_id == Round.id)
        .where(Round.model == model)
        .group_by(Sample.round_id)
    )
    query = select(Sample).where(tuple_(Sample.round_id, Sample.step).in_(last))
    found: dict[str, list[Picture]] = {}
    for sample in session.scalars(query.order_by(Sample.position)):
        found.setdefault(sample.round_id, []).extend(pictures([sample]))
    return found
