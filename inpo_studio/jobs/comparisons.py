"""Making comparisons: base and aligned pictures of the same prompts and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from inpo_studio.configs import GenerationConfig
from inpo_studio.jobs.context import JobContext, JobFailed
from inpo_studio.jobs.pictures import Painter, adapter_folder, drawn_by, keep, read_prompts
from storage.comparisons import add_comparison
from storage.images import add_image
from storage.rounds import get_round
from storage.schema import Comparison, Image, Prompt


class ComparisonsPayload(BaseModel):
    """What a `comparisons` job is told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt_ids: list[str]
    seeds: list[int]
    round_id: str
    base_round_id: str | None = None
    """The round whose adapter draws the base pictures; None is the base model."""
    generation: GenerationConfig
    scale: float = Field(1.0, ge=0.0, le=4.0)
    """Strength of the adapter in the aligned pictures; base pictures are at full strength."""


@dataclass(frozen=True)
class _Item:
    index: int
    prompt: Prompt
    seed: int


@dataclass(frozen=True)
class _Job:
    asked: ComparisonsPayload
    base: Painter
    aligned: Painter


def run(context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Make the comparisons of every prompt and seed; returns their ids, prompts outermost.

    A comparison that exists already with equal settings is taken as it is, and so is a picture.
    """
    asked = ComparisonsPayload.model_validate(payload)
    with context.database.read() as session:
        prompts = read_prompts(session, asked.prompt_ids)
    items = [
        _Item(index, prompt, seed)
        for index, (prompt, seed) in enumerate(product(prompts, asked.seeds))
    ]
    job = _prepare(context, asked)
    with context.database.read() as session:
        found = {item.index: _existing(session, job, item) for item in items}
    missing = [item for item in items if found[item.index] is None]
    together = asked.generation.batch_size
    for start in range(0, len(missing), together):
        context.progress(len(items) - len(missing) + start, len(items))
        context.checkpoint()
        # Only where it is a job of its own: a round that draws its samples must not be put back.
        if start and context.kind == "comparisons":
            context.give_way()
        found |= _make(job, missing[start : start + together])
    context.progress(len(items), len(items))
    return {"comparison_ids": [found[item.index] for item in items]}


def _prepare(context: JobContext, asked: ComparisonsPayload) -> _Job:
    """Find both adapters, then load the model they belong to."""
    with context.database.read() as session:
        model, adapter_id, folder = _adapter(context, session, asked.round_id)
        base_id, base_folder = None, None
        if asked.base_round_id is not None:
            base_model, base_id, base_folder = _adapter(context, session, asked.base_round_id)
            if base_model != model:
                raise JobFailed("The two rounds are of different models; compare two of one.")
        generation = drawn_by(session, base_id, asked.generation)
        aligned_generation = drawn_by(session, adapter_id, asked.generation)
    pipeline = context.pipelines.get(model)
    base = Painter(context, pipeline, generation, base_id, base_folder)
    aligned = Painter(context, pipeline, aligned_generation, adapter_id, folder, asked.scale)
    return _Job(asked, base, aligned)


def _adapter(context: JobContext, session: Session, round_id: str) -> tuple[str, str, Path]:
    """A round's model and adapter, and where the adapter's files are."""
    round_ = get_round(session, round_id)
    if round_.adapter_id is None:
        raise JobFailed(f"Round {round_.number} has no adapter; compare one that is done.")
    return round_.model, round_.adapter_id, adapter_folder(context, session, round_.adapter_id)


def _existing(session: Session, job: _Job, item: _Item) -> str | None:
    """A comparison of these sides, prompt, seed and scale whose pictures were made just so."""
    asked = job.asked
    query = select(Comparison).where(
        Comparison.round_id == asked.round_id,
        Comparison.base_round_id.is_not_distinct_from(asked.base_round_id),
        Comparison.adapter_id == job.aligned.adapter_id,
        Comparison.prompt_id == item.prompt.id,
        Comparison.seed == item.seed,
        Comparison.scale == asked.scale,
    )
    for row in session.scalars(query.order_by(Comparison.position)):
        if _made_with(row.base_image, job.base) and _made_with(row.aligned_image, job.aligned):
            return row.id
    return None


def _made_with(image: Image, painter: Painter) -> bool:
    return all(getattr(image, name) == value for name, value in painter.made_with().items())


def _make(job: _Job, items: Sequence[_Item]) -> dict[int, str]:
    """Draw some comparisons, each picture only where there is none like it; rows at once."""
    with job.base.context.database.read() as session:
        base = {item.index: _drawn(session, job.base, item) for item in items}
        aligned = {item.index: _drawn(session, job.aligned, item) for item in items}
    new_base = _draw(job.base, [item for item in items if base[item.index] is None])
    new_aligned = _draw(job.aligned, [item for item in items if aligned[item.index] is None])
    made: dict[int, str] = {}
    with job.base.context.database.write() as session:
        for item in items:
            index = item.index
            base_id, aligned_id = base[index], aligned[index]
            if base_id is None:
                base_id = _add(session, job.base, "base", item, new_base[index])
            if aligned_id is None:
                aligned_id = _add(session, job.aligned, "aligned", item, new_aligned[index])
            made[index] = add_comparison(
                session,
                comparison_id=job.base.context.item_id("comparison", index),
                prompt_id=item.prompt.id,
                seed=item.seed,
                base_image_id=base_id,
                aligned_image_id=aligned_id,
                round_id=job.asked.round_id,
                base_round_id=job.asked.base_round_id,
                adapter_id=job.aligned.adapter_id,
                scale=job.asked.scale,
            ).id
    return made


def _drawn(session: Session, painter: Painter, item: _Item) -> str | None:
    """The oldest picture that this painter would draw just so.

    A picture's row does not hold the adapter's strength: at any but full strength it is the
    aligned picture of a comparison, which does.
    """
    query = select(Image.id).where(
        Image.prompt_id == item.prompt.id,
        Image.seed == item.seed,
        *(
            getattr(Image, name).is_not_distinct_from(value)
            for name, value in painter.made_with().items()
        ),
    )
    if painter.adapter_id is not None:
        strengths = select(Comparison.aligned_image_id)
        if painter.scale == 1.0:
            query = query.where(Image.id.not_in(strengths.where(Comparison.scale != 1.0)))
        else:
            query = query.where(Image.id.in_(strengths.where(Comparison.scale == painter.scale)))
    return session.scalar(query.order_by(Image.created_at, Image.id).limit(1))


def _draw(painter: Painter, items: Sequence[_Item]) -> dict[int, dict[str, Any]]:
    """Pictures by the items' indices, as columns of rows."""
    if not items:
        return {}
    drawn = painter.paint([item.prompt.text for item in items], [item.seed for item in items])
    kept = (keep(painter.context.files, one) for one in drawn)
    return {item.index: columns for item, columns in zip(items, kept, strict=True)}


def _add(
    session: Session, painter: Painter, role: str, item: _Item, columns: dict[str, Any]
) -> str:
    return add_image(
        session,
        image_id=painter.context.item_id(role, item.index),
        prompt_id=item.prompt.id,
        seed=item.seed,
        **columns,
        **painter.made_with(),
    ).id
