"""Pairs: two images of one prompt, waiting to be chosen between."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import CursorResult, Exists, Select, exists, func, select, update
from sqlalchemy.orm import Session

from storage.checks import get_row, next_number
from storage.errors import InvalidInput
from storage.images import get_image
from storage.prompts import get_prompt, refuse_held_out
from storage.schema import Choice, Image, Pair, PairState, Prompt, new_id


def add_pair(
    session: Session,
    *,
    prompt_id: str,
    first_image_id: str,
    second_image_id: str,
    pair_id: str | None = None,
) -> Pair:
    """Store a pair; model and adapter are those of its two images.

    With a `pair_id` that exists already the stored row is returned, so a repeated job adds
    nothing twice. Raises HeldOutPrompt for a held-out prompt, InvalidInput if the images are
    one, or are not both of this prompt and of one model and adapter, NotFound for unknown ids.
    """
    pair_id = pair_id or new_id()
    stored = session.get(Pair, pair_id)
    if stored is not None:
        if (stored.first_image_id, stored.second_image_id) != (first_image_id, second_image_id):
            raise InvalidInput(f"The pair {pair_id!r} is already stored with other images.")
        return stored
    prompt = get_prompt(session, prompt_id)
    refuse_held_out(prompt)
    first, second = get_image(session, first_image_id), get_image(session, second_image_id)
    _check_images(prompt_id, first, second)
    pair = Pair(
        id=pair_id,
        prompt=prompt,
        first_image=first,
        second_image=second,
        model=first.model,
        adapter_id=first.adapter_id,
        state="ready",
        position=next_number(session, Pair.position),
    )
    session.add(pair)
    session.flush()
    return pair


def _check_images(prompt_id: str, first: Image, second: Image) -> None:
    if first.id == second.id:
        raise InvalidInput("A pair needs two different images; draw one with another seed.")
    for image in (first, second):
        if image.prompt_id != prompt_id:
            raise InvalidInput(f"The image {image.id!r} was drawn for another prompt.")
    if (first.model, first.adapter_id) != (second.model, second.adapter_id):
        raise InvalidInput("The two images of a pair must come from one model and one adapter.")


def get_pair(session: Session, pair_id: str) -> Pair:
    """The pair with this id, with its prompt and images; NotFound if there is none."""
    return get_row(session, Pair, pair_id)


def list_pairs(
    session: Session, model: str | None = None, state: PairState | None = None
) -> list[Pair]:
    """All pairs, or those of one model or state, oldest first."""
    query = select(Pair).order_by(Pair.position)
    if model is not None:
        query = query.where(Pair.model == model)
    if state is not None:
        query = query.where(Pair.state == state)
    return list(session.scalars(query))


def next_unlabelled(
    session: Session,
    model: str,
    adapter_id: str | None,
    limit: int,
    annotator: str | None,
    *,
    exclude: Collection[str] = (),
    own_first: bool = False,
) -> list[Pair]:
    """The oldest ready pairs of a model and adapter that the annotator has not chosen on.

    `adapter_id` None is the base model's own pairs; `annotator` None gives pairs nobody chose
    on. A pair whose choice was undone comes back in its old place. `exclude` names pairs
    already on a screen. With `own_first` pairs of starter prompts come last.
    """
    query = _open(select(Pair), model, adapter_id, annotator)
    if exclude:
        query = query.where(Pair.id.not_in(list(exclude)))
    if own_first:
        starter = exists().where(Prompt.id == Pair.prompt_id, Prompt.source == "starter")
        query = query.order_by(starter)
    return list(session.scalars(query.order_by(Pair.position).limit(limit)))


def count_ready(
    session: Session, model: str, adapter_id: str | None, annotator: str | None = None
) -> int:
    """How many pairs `next_unlabelled` would give; without annotator, how many nobody chose on."""
    query = _open(select(func.count()).select_from(Pair), model, adapter_id, annotator)
    return session.scalar(query) or 0


def retire_pairs(session: Session, pair_ids: Iterable[str]) -> int:
    """Show these pairs no more; their choices stay and still count. Returns how many changed."""
    changed: CursorResult[Any] = session.execute(  # type: ignore[assignment]
        update(Pair)
        .where(Pair.id.in_(list(pair_ids)), Pair.state == "ready")
        .values(state="retired")
    )
    return changed.rowcount


def show_only(session: Session, model: str, adapter_id: str | None) -> int:
    """Let only pairs of one adapter (None: the base model) wait to be labelled.

    Those of others are retired and this one's come back; pairs that somebody has chosen on stay
    as they are. Returns how many were retired. Rows in the session are not refreshed.
    """
    mine = Pair.adapter_id.is_not_distinct_from(adapter_id)
    waiting = update(Pair).where(Pair.model == model, ~_chosen())
    waiting = waiting.execution_options(synchronize_session=False)
    session.execute(waiting.where(mine, Pair.state == "retired").values(state="ready"))
    retired: CursorResult[Any] = session.execute(  # type: ignore[assignment]
        waiting.where(~mine, Pair.state == "ready").values(state="retired")
    )
    return retired.rowcount


def _open(
    query: Select[Any], model: str, adapter_id: str | None, annotator: str | None
) -> Select[Any]:
    return query.where(
        Pair.model == model,
        Pair.adapter_id.is_not_distinct_from(adapter_id),
        Pair.state == "ready",
        ~_chosen(annotator),
    )


def _chosen(annotator: str | None = None) -> Exists:
    """Whether somebody, or this annotator, has a live choice on a pair."""
    chosen = exists().where(Choice.pair_id == Pair.id, Choice.undone_at.is_(None))
    return chosen if annotator is None else chosen.where(Choice.annotator == annotator)
