"""The prompts of a workspace as a page lists them: what each is for, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from inpo_studio.studio import Studio
from storage.progress import get_progress
from storage.rounds import list_rounds
from storage.schema import Choice, Comparison, Pair, Prompt, PromptSource, Split
from storage.transitions import WORKED_ON

MOST_LINES = 500
Which = Literal["all", "own", "starter", "compare"]


@dataclass(frozen=True)
class PromptLine:
    """One prompt; the counts are those of the present model."""

    id: str
    text: str
    split: Split
    source: PromptSource
    pairs: int
    labelled: int
    """Pairs that anybody has chosen on."""
    comparisons: int


@dataclass(frozen=True)
class PromptList:
    """Some prompts, and how many there are in all."""

    lines: list[PromptLine]
    found: int
    """Prompts that were asked for; `lines` may hold fewer."""
    train: int
    validation: int
    held_out: int
    under_way: bool
    """Pairs are being made, or wait to be."""
    made: int
    to_make: int
    """Of the pairs being made now; 0 where that is not known yet."""
    round_runs: bool
    """A round holds the worker, so that pairs come one by one."""


def prompt_list(
    studio: Studio, which: Which = "all", search: str = "", limit: int = 100
) -> PromptList:
    """Return prompts to read through: own ones first, the latest before the others.

    `search` keeps those that hold this text. Held-out prompts come last.
    """
    model = studio.settings.model
    with studio.database.read() as session:
        wanted = _wanted(which, search)
        found = session.scalar(select(func.count()).select_from(wanted.subquery())) or 0
        order = (Prompt.split == "held_out", Prompt.source == "starter", Prompt.position.desc())
        limit = max(1, min(limit, MOST_LINES))
        prompts: list[Prompt] = list(session.scalars(wanted.order_by(*order).limit(limit)))
        counts = _counts(session, model, [prompt.id for prompt in prompts])
        splits = session.execute(select(Prompt.split, func.count()).group_by(Prompt.split))
        by_split = {split: count for split, count in splits}  # noqa: C416 (a Result has keys())
        runs = any(row.state in WORKED_ON for row in list_rounds(session, model))
        under_way, made, to_make = _under_way(studio, session)
    return PromptList(
        lines=[
            PromptLine(p.id, p.text, p.split, p.source, *counts.get(p.id, (0, 0, 0)))
            for p in prompts
        ],
        found=found,
        train=by_split.get("train", 0),
        validation=by_split.get("validation", 0),
        held_out=by_split.get("held_out", 0),
        under_way=under_way,
        made=made,
        to_make=to_make,
        round_runs=runs,
    )


def _wanted(which: Which, search: str) -> Select[Any]:
    query = select(Prompt)
    if which == "own":
        query = query.where(Prompt.source == "own", Prompt.split != "held_out")
    elif which == "starter":
        query = query.where(Prompt.source == "starter", Prompt.split != "held_out")
    elif which == "compare":
        query = query.where(Prompt.split == "held_out")
    if search.strip():
        query = query.where(Prompt.text.icontains(search.strip(), autoescape=True))
    return query


def _counts(session: Session, model: str, prompt_ids: list[str]) -> dict[str, tuple[int, int, int]]:
    pairs = (
        select(
            Pair.prompt_id, func.count(Pair.id.distinct()), func.count(Choice.pair_id.distinct())
        )
        .outerjoin(Choice, (Choice.pair_id == Pair.id) & Choice.undone_at.is_(None))
        .where(Pair.model == model, Pair.prompt_id.in_(prompt_ids))
        .group_by(Pair.prompt_id)
    )
    comparisons = (
        select(Comparison.prompt_id, func.count())
        .where(Comparison.prompt_id.in_(prompt_ids))
        .group_by(Comparison.prompt_id)
    )
    found = {name: (made, chosen, 0) for name, made, chosen in session.execute(pairs)}
    for name, count in session.execute(comparisons):
        made, chosen, _ = found.get(name, (0, 0, 0))
        found[name] = (made, chosen, count)
    return found


def _under_way(studio: Studio, session: Session) -> tuple[bool, int, int]:
    made = to_make = 0
    jobs = studio.engine.unfinished("pairs")
    for job in jobs:
        row = get_progress(session, job.job_id)
        if row is not None:
            made, to_make = made + row.done, to_make + row.total
    return bool(jobs), made, to_make
