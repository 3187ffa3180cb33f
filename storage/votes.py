"""Votes of blind trials: recorded once, undone but never deleted. Votes are never choices."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.checks import checked_text, get_row, next_number
from storage.choices import ANSWERS
from storage.errors import AlreadyChosen, InvalidInput, KeyReused, NotFound
from storage.schema import Answer, Side, TrialItem, Vote, utc_now


def record_vote(
    session: Session,
    *,
    key: str,
    trial_id: str,
    item_position: int,
    choice: Answer,
    aligned_side: Side,
    annotator: str,
    milliseconds: int | None = None,
) -> Vote:
    """Store a vote; acknowledge it only after the session has been committed.

    `key` is made by the client, once per press: a repeated delivery returns the stored row
    and raises KeyReused if its content differs. Raises AlreadyChosen if the annotator has
    another live vote on the item, NotFound for an unknown item, InvalidInput for one whose
    pictures are not drawn yet.
    """
    key, annotator = checked_text(key, "key", 200), checked_text(annotator, "annotator", 200)
    stored = find_vote(session, key)
    if stored is not None:
        old = (stored.trial_id, stored.item_position, stored.choice, stored.annotator)
        if old != (trial_id, item_position, choice, annotator):
            raise KeyReused(f"The key {key!r} belongs to another vote; send a new key every time.")
        return stored
    item = session.get(TrialItem, (trial_id, item_position))
    if item is None:
        raise NotFound(f"The trial {trial_id!r} has no item {item_position}.")
    _check(item, choice, milliseconds)
    if any(v.item_position == item_position for v in live_votes(session, trial_id, annotator)):
        raise AlreadyChosen("You have voted on these two pictures already; undo that vote first.")
    row = Vote(
        key=key,
        trial_id=trial_id,
        item_position=item_position,
        choice=choice,
        aligned_side=aligned_side,
        milliseconds=milliseconds,
        annotator=annotator,
        position=next_number(session, Vote.position),
    )
    session.add(row)
    session.flush()
    return row


def _check(item: TrialItem, choice: str, milliseconds: int | None) -> None:
    if item.comparison_id is None:
        raise InvalidInput("These two pictures are not drawn yet; wait a moment.")
    if choice not in ANSWERS:
        raise InvalidInput(f"The vote {choice!r} must be one of {', '.join(ANSWERS)}.")
    if milliseconds is not None and not 0 <= milliseconds < 2**31:
        raise InvalidInput(f"A vote cannot take {milliseconds} milliseconds.")


def find_vote(session: Session, key: str) -> Vote | None:
    """The vote that was sent with this key, undone or not."""
    return session.scalar(select(Vote).where(Vote.key == key))


def undo_vote(session: Session, vote_id: str) -> Vote:
    """Undo one vote; undoing it again changes nothing."""
    row = get_row(session, Vote, vote_id)
    if row.undone_at is None:
        row.undone_at = utc_now()
        session.flush()
    return row


def live_votes(session: Session, trial_id: str, annotator: str | None = None) -> list[Vote]:
    """The votes of a trial that are not undone, or one person's, in the order they were cast."""
    query = select(Vote).where(Vote.trial_id == trial_id, Vote.undone_at.is_(None))
    if annotator is not None:
        query = query.where(Vote.annotator == annotator)
    return list(session.scalars(query.order_by(Vote.position)))
