"""Blind trials: what is compared, of which prompts and seeds, and when the result was seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.checks import checked_seed, get_row, next_number
from storage.comparisons import get_comparison
from storage.errors import InvalidInput, NotFound
from storage.prompts import get_prompt
from storage.rounds import get_round
from storage.schema import Comparison, Image, Trial, TrialItem, new_id


def create_trial(
    session: Session,
    *,
    model: str,
    round_id: str,
    base_round_id: str | None,
    scale: float,
    generation: dict[str, Any],
    items: Sequence[tuple[str, int]],
    job_id: str | None = None,
    trial_id: str | None = None,
) -> Trial:
    """Store a trial of these (prompt id, seed) items, which are as many as votes are planned.

    With a `trial_id` that exists already the stored row is returned. Raises InvalidInput
    unless both rounds are of the model and have adapters, and differ.
    """
    trial_id = trial_id or new_id()
    stored = session.get(Trial, trial_id)
    if stored is not None:
        return stored
    if round_id == base_round_id:
        raise InvalidInput("A trial needs two different sides; choose another round or the base.")
    for name in filter(None, (round_id, base_round_id)):
        row = get_round(session, name)
        if row.model != model or row.adapter_id is None:
            raise InvalidInput(f"Round {row.number} has no adapter of {model}; choose another.")
    if not items:
        raise InvalidInput("A trial needs prompts; write some to compare by first.")
    trial = Trial(
        id=trial_id,
        model=model,
        round_id=round_id,
        base_round_id=base_round_id,
        scale=scale,
        generation=generation,
        planned=len(items),
        job_id=job_id,
        position=next_number(session, Trial.position),
    )
    session.add(trial)
    session.flush()
    add_items(session, trial_id, items)
    return trial


def add_items(session: Session, trial_id: str, items: Sequence[tuple[str, int]]) -> None:
    """Add (prompt id, seed) items behind those there are; what was planned stays."""
    last = func.max(TrialItem.position)
    start = session.scalar(select(last).where(TrialItem.trial_id == trial_id))
    start = -1 if start is None else start
    for position, (prompt_id, seed) in enumerate(items, start + 1):
        prompt = get_prompt(session, prompt_id)
        row = TrialItem(
            trial_id=trial_id, position=position, prompt=prompt, seed=checked_seed(seed)
        )
        session.add(row)
    session.flush()


def get_trial(session: Session, trial_id: str) -> Trial:
    """The trial with this id; NotFound if there is none."""
    return get_row(session, Trial, trial_id)


def list_trials(session: Session, model: str, round_id: str | None = None) -> list[Trial]:
    """The trials of a model, or those of one of its rounds, oldest first."""
    query = select(Trial).where(Trial.model == model)
    if round_id is not None:
        query = query.where(Trial.round_id == round_id)
    return list(session.scalars(query.order_by(Trial.position)))


def trial_items(session: Session, trial_id: str) -> list[TrialItem]:
    """The items of a trial in order, with their comparisons as far as they are drawn."""
    query = select(TrialItem).where(TrialItem.trial_id == trial_id)
    return list(session.scalars(query.order_by(TrialItem.position)))


def set_item_comparison(
    session: Session, trial_id: str, position: int, comparison_id: str
) -> TrialItem:
    """Note the pictures of an item; InvalidInput if they are of another prompt or seed."""
    item = session.get(TrialItem, (trial_id, position))
    if item is None:
        raise NotFound(f"The trial {trial_id!r} has no item {position}.")
    drawn = get_comparison(session, comparison_id)
    if (drawn.prompt_id, drawn.seed) != (item.prompt_id, item.seed):
        raise InvalidInput(f"The comparison {comparison_id!r} is of another prompt or seed.")
    item.comparison = drawn
    session.flush()
    return item


def note_look(session: Session, trial_id: str, votes: int) -> Trial:
    """Remember with how many votes the result was seen first; later looks change nothing."""
    trial = get_trial(session, trial_id)
    if trial.first_look is None:
        trial.first_look = votes
        session.flush()
    return trial


def used_seeds(session: Session, model: str, prompt_id: str) -> set[int]:
    """Seeds whose pictures of a prompt somebody may have seen, or is about to."""
    images = select(Image.seed).where(Image.model == model, Image.prompt_id == prompt_id)
    shown = select(Comparison.seed).where(Comparison.prompt_id == prompt_id)
    tried = select(TrialItem.seed).where(TrialItem.prompt_id == prompt_id)
    return {seed for query in (images, shown, tried) for seed in session.scalars(query)}
