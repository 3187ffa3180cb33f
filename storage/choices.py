"""Choices as they were clicked: recorded once, undone but never deleted."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from storage.checks import checked_text, get_row, next_number
from storage.errors import AlreadyChosen, InvalidInput, KeyReused
from storage.pairs import get_pair
from storage.schema import Answer, Choice, Pair, utc_now

ANSWERS: tuple[Answer, ...] = ("left", "right", "tie", "both_bad", "skip")
DECIDED: tuple[Answer, ...] = ("left", "right", "tie")
"""Answers that rounds learn from and are checked on."""


def record_choice(
    session: Session,
    *,
    key: str,
    pair_id: str,
    choice: Answer,
    left_image_id: str,
    right_image_id: str,
    annotator: str,
    milliseconds: int | None = None,
) -> Choice:
    """Store a click; acknowledge it only after the session has been committed.

    `key` is made by the client, once per click: a repeated delivery returns the stored row
    (also when it has been undone since) and raises KeyReused if its content differs.
    `milliseconds` is how long the pair was on screen. Raises AlreadyChosen if the annotator
    has another live choice on the pair, InvalidInput if the images shown are not the pair's,
    NotFound for an unknown pair.
    """
    key, annotator = checked_text(key, "key", 200), checked_text(annotator, "annotator", 200)
    stored = session.scalar(select(Choice).where(Choice.key == key))
    if stored is not None:
        _same_click(stored, pair_id, choice, left_image_id, right_image_id, annotator)
        return stored
    pair = get_pair(session, pair_id)
    _check_click(pair, choice, left_image_id, right_image_id, milliseconds)
    if live_choice(session, pair_id, annotator) is not None:
        raise AlreadyChosen(
            f"{annotator} has already chosen on the pair {pair_id!r}; undo that choice first."
        )
    row = Choice(
        key=key,
        pair=pair,
        choice=choice,
        left_image_id=left_image_id,
        right_image_id=right_image_id,
        milliseconds=milliseconds,
        annotator=annotator,
        position=next_number(session, Choice.position),
    )
    session.add(row)
    session.flush()
    return row


def _same_click(
    stored: Choice, pair_id: str, choice: str, left: str, right: str, annotator: str
) -> None:
    # how long it took is left out: a client may measure it anew when it sends again
    old = (
        stored.pair_id,
        stored.choice,
        stored.left_image_id,
        stored.right_image_id,
        stored.annotator,
    )
    if old != (pair_id, choice, left, right, annotator):
        raise KeyReused(
            f"The key {stored.key!r} belongs to another choice; send a new key with every click."
        )


def _check_click(pair: Pair, choice: str, left: str, right: str, milliseconds: int | None) -> None:
    if choice not in ANSWERS:
        raise InvalidInput(f"The choice {choice!r} must be one of {', '.join(ANSWERS)}.")
    if {left, right} != {pair.first_image_id, pair.second_image_id}:
        raise InvalidInput(
            f"The images shown are not those of the pair {pair.id!r}; load the pair again."
        )
    if milliseconds is not None and not 0 <= milliseconds < 2**31:
        raise InvalidInput(f"A choice cannot take {milliseconds} milliseconds.")


def undo_choice(session: Session, choice_id: str) -> Choice:
    """Undo one choice; undoing it again changes nothing. Rounds keep what they froze."""
    row = get_row(session, Choice, choice_id)
    if row.undone_at is None:
        row.undone_at = utc_now()
        session.flush()
    return row


def live_choice(session: Session, pair_id: str, annotator: str) -> Choice | None:
    """The annotator's choice on a pair, if it has one that is not undone."""
    return session.scalar(
        select(Choice).where(
            Choice.pair_id == pair_id, Choice.annotator == annotator, Choice.undone_at.is_(None)
        )
    )


def live_choices(
    session: Session,
    model: str | None = None,
    *,
    adapter_ids: Collection[str | None] | None = None,
    annotators: Collection[str] | None = None,
) -> list[Choice]:
    """Choices as `live` keeps them, in the order they were made, with pair, prompt and images."""
    query = select(Choice).join(Choice.pair)
    query = live(query, model, adapter_ids=adapter_ids, annotators=annotators)
    return list(session.scalars(query.order_by(Choice.position)))


def live(
    query: Select[Any],
    model: str | None = None,
    *,
    adapter_ids: Collection[str | None] | None = None,
    annotators: Collection[str] | None = None,
) -> Select[Any]:
    """Narrow a query over choices and their pairs to the choices that are not undone.

    `adapter_ids` keeps the pairs made by these adapters (None among them is the base model),
    `annotators` those people's choices. Choices on retired pairs count.
    """
    query = query.where(Choice.undone_at.is_(None))
    if model is not None:
        query = query.where(Pair.model == model)
    if adapter_ids is not None:
        made_by = Pair.adapter_id.in_([name for name in adapter_ids if name is not None])
        query = query.where(made_by | Pair.adapter_id.is_(None) if None in adapter_ids else made_by)
    if annotators is not None:
        query = query.where(Choice.annotator.in_(list(annotators)))
    return query
