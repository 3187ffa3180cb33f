"""Comparisons: the same prompt and seed drawn by the base and by an aligned model."""

from __future__ import annotations

from types import EllipsisType

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.checks import checked_seed, get_row, next_number
from storage.errors import InvalidInput
from storage.images import get_image
from storage.prompts import get_prompt
from storage.schema import Comparison, Prompt, Split, new_id


def add_comparison(
    session: Session,
    *,
    prompt_id: str,
    seed: int,
    base_image_id: str,
    aligned_image_id: str,
    round_id: str | None = None,
    base_round_id: str | None = None,
    adapter_id: str | None = None,
    scale: float = 1.0,
    comparison_id: str | None = None,
) -> Comparison:
    """Store a comparison; `scale` is the adapter's strength in the aligned picture.

    The base picture is by the adapter of `base_round_id`; None is the base model.
    With a `comparison_id` that exists already the stored row is returned, so a repeated job
    adds nothing twice. Raises InvalidInput unless both images are of this prompt and seed.
    """
    comparison_id = comparison_id or new_id()
    stored = session.get(Comparison, comparison_id)
    if stored is not None:
        return stored
    base, aligned = get_image(session, base_image_id), get_image(session, aligned_image_id)
    for image in (base, aligned):
        if (image.prompt_id, image.seed) != (prompt_id, seed):
            raise InvalidInput(f"The image {image.id!r} is of another prompt or seed.")
    row = Comparison(
        id=comparison_id,
        round_id=round_id,
        base_round_id=base_round_id,
        adapter_id=adapter_id,
        prompt=get_prompt(session, prompt_id),
        seed=checked_seed(seed),
        base_image=base,
        aligned_image=aligned,
        scale=scale,
        position=next_number(session, Comparison.position),
    )
    session.add(row)
    session.flush()
    return row


def get_comparison(session: Session, comparison_id: str) -> Comparison:
    """The comparison with this id; NotFound if there is none."""
    return get_row(session, Comparison, comparison_id)


def list_comparisons(
    session: Session,
    round_id: str | None = None,
    *,
    base_round_id: str | EllipsisType | None = ...,
    split: Split | None = None,
) -> list[Comparison]:
    """All comparisons, or a round's, or those on prompts of one split, oldest first.

    `base_round_id` keeps those against this round, None those against the base model.
    Verdicts count those of split "held_out" only.
    """
    query = select(Comparison).order_by(Comparison.position)
    if round_id is not None:
        query = query.where(Comparison.round_id == round_id)
    if base_round_id is not ...:
        query = query.where(Comparison.base_round_id.is_not_distinct_from(base_round_id))
    if split is not None:
        query = query.where(
            Comparison.prompt_id.in_(select(Prompt.id).where(Prompt.split == split))
        )
    return list(session.scalars(query))
