"""The choices a round froze: winner and loser are derived here and nowhere else."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

from sqlalchemy import Select, exists, func, select
from sqlalchemy.orm import Session

from storage.checks import get_row
from storage.choices import DECIDED, live
from storage.errors import IllegalTransition, InvalidInput, NothingToTrain
from storage.schema import Choice, Image, Pair, Round, RoundPair
from storage.transitions import WORKED_ON


def freeze_choices(
    session: Session,
    round_: Round | str,
    *,
    adapter_ids: Collection[str | None] | None = None,
    annotators: Collection[str] | None = None,
) -> list[RoundPair]:
    """Copy the live choices of the round's model into `round_pairs`; returns them in order.

    One row per choice, so several annotators of a pair count each. left and right become
    winner and loser with preference 1.0, a tie preference 0.5 (the pair's first image then
    stands as winner); both_bad and skip are left out. What is undone later stays frozen. A
    round that has frozen already returns its rows. The filters are those of `live`, beside what
    `usable` keeps of the round's `selection`.
    Raises NothingToTrain without a usable choice on a training prompt.
    """
    row = round_ if isinstance(round_, Round) else get_row(session, Round, round_)
    frozen = round_pairs(session, row.id)
    if frozen:
        return frozen
    if row.state != "queued" and row.state not in WORKED_ON:
        raise IllegalTransition(f"Round {row.number} is {row.state}; choices cannot be frozen.")
    query = select(Choice).join(Choice.pair)
    query = live(query, row.model, adapter_ids=adapter_ids, annotators=annotators)
    choices = session.scalars(usable(query, row.selection).order_by(Choice.position))
    frozen = [_freeze(row.id, position, choice) for position, choice in enumerate(choices)]
    if not any(pair.split == "train" for pair in frozen):
        raise NothingToTrain(
            "There is no choice to learn from yet; pick left or right on a few pairs first."
        )
    session.add_all(frozen)
    session.flush()
    return frozen


def usable(query: Select[Any], selection: dict[str, Any] | None) -> Select[Any]:
    """Narrow a query over choices to those a round can freeze and its `selection` keeps.

    None keeps all; else "which" is "all", or "fresh" for those no earlier round has learnt from,
    and "annotators" names whose, or is null for everybody.
    """
    asked = selection or {}
    query = query.where(Choice.choice.in_(DECIDED))
    if asked.get("annotators") is not None:
        query = query.where(Choice.annotator.in_(asked["annotators"]))
    if asked.get("which") == "fresh":
        learnt = (
            exists()
            .where(RoundPair.choice_id == Choice.id, RoundPair.round_id == Round.id)
            .where(Round.state.not_in(("failed", "cancelled")))
        )
        query = query.where(~learnt)
    return query


def _freeze(round_id: str, position: int, choice: Choice) -> RoundPair:
    pair = choice.pair
    winner, loser, preference = _winner_and_loser(pair, choice)
    split = pair.prompt.split
    if split == "held_out":
        raise InvalidInput(
            f"The pair {pair.id!r} is on a held-out prompt; it cannot be trained on."
        )
    return RoundPair(
        round_id=round_id,
        position=position,
        pair_id=pair.id,
        choice_id=choice.id,
        prompt=pair.prompt,
        winner_image=winner,
        loser_image=loser,
        preference=preference,
        split=split,
    )


def _winner_and_loser(pair: Pair, choice: Choice) -> tuple[Image, Image, float]:
    first, second = pair.first_image, pair.second_image
    if choice.choice == "tie":
        return first, second, 0.5
    clicked = choice.left_image_id if choice.choice == "left" else choice.right_image_id
    return (first, second, 1.0) if clicked == first.id else (second, first, 1.0)


def round_pairs(
    session: Session, round_id: str, split: Literal["train", "validation"] | None = None
) -> list[RoundPair]:
    """The frozen choices of a round, or those of one split, in order, with their images."""
    query = select(RoundPair).where(RoundPair.round_id == round_id).order_by(RoundPair.position)
    if split is not None:
        query = query.where(RoundPair.split == split)
    return list(session.scalars(query))


def rounds_that_froze(session: Session, choice_id: str) -> list[Round]:
    """The rounds that learn, or learnt, from a choice, by number."""
    query = select(Round).join(RoundPair, RoundPair.round_id == Round.id)
    query = query.where(RoundPair.choice_id == choice_id).order_by(Round.number)
    return list(session.scalars(query))


def count_frozen(session: Session, model: str) -> dict[str, int]:
    """How many choices each round of a model froze to learn from, by the round's id."""
    query = (
        select(RoundPair.round_id, func.count())
        .join(Round, RoundPair.round_id == Round.id)
        .where(Round.model == model, RoundPair.split == "train")
        .group_by(RoundPair.round_id)
    )
    return {row[0]: row[1] for row in session.execute(query)}
