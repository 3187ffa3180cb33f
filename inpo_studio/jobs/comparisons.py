"""Making comparisons: base and aligned pictures of the same prompts and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from inpo_studio.configs import GenerationConfig
from inpo_studio.jobs.context import JobContext, JobFailed
from inpo_studio.jobs.pictures import Painter, adapter_folder, keep, read_prompts
from storage.comparisons import add_comparison
from storage.images import add_image, find_image
from storage.rounds import get_round
from storage.schema import Comparison, Image, Prompt


class ComparisonsPayload(BaseModel):
    """What a `comparisons` job is told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt_ids: list[str]
    seeds: list[int]
    round_id: str
    generation: GenerationConfig
    scale: float = Field(1.0, ge=0.0, le=4.0)


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

    A comparison that exists already with equal settings is taken as it is.
    """
    asked = ComparisonsPayload.model_validate(payload)
    with context.database.read() as session:
        prompts = read_prompts(session, asked.prompt_ids)
        round_ = get_round(session, asked.round_id)
        if round_.adapter_id is None:
            raise JobFailed(f"Round {round_.number} has no adapter; compare one that is done.")
        folder = adapter_folder(context, session, round_.adapter_id)
    items = [
        _Item(index, prompt, seed)
        for index, (prompt, seed) in enumerate(product(prompts, asked.seeds))
    ]
    context.progress(0, len(items))
    base = Painter(context, context.pipelines.get(round_.model), asked.generation)
    aligned = replace(base, adapter_id=round_.adapter_id, adapter_folder=folder, scale=asked.scale)
    job = _Job(asked, base, aligned)
    with context.database.read() as session:
        found = {item.index: _existing(session, job, item) for item in items}
    missing = [item for item in items if found[item.index] is None]
    together = asked.generation.batch_size
    for start in range(0, len(missing), together):
        context.progress(len(items) - len(missing) + start, len(items))
        context.checkpoint()
        found |= _make(job, missing[start : start + together])
    context.progress(len(items), len(items))
    return {"comparison_ids": [found[item.index] for item in items]}


def _existing(session: Session, job: _Job, item: _Item) -> str | None:
    """A comparison of this round, prompt, seed and scale whose pictures were made just so."""
    query = select(Comparison).where(
        Comparison.round_id == job.asked.round_id,
        Comparison.adapter_id == job.aligned.adapter_id,
        Comparison.prompt_id == item.prompt.id,
        Comparison.seed == item.seed,
        Comparison.scale == job.asked.scale,
    )
    for row in session.scalars(query.order_by(Comparison.position)):
        if _made_with(row.base_image, job.base) and _made_with(row.aligned_image, job.aligned):
            return row.id
    return None


def _made_with(image: Image, painter: Painter) -> bool:
    return all(getattr(image, name) == value for name, value in painter.made_with().items())


def _make(job: _Job, items: Sequence[_Item]) -> dict[int, str]:
    """Draw some comparisons, the base pictures only where there are none; rows at once."""
    context = job.base.context
    with context.database.read() as session:
        known = {item.index: _base_image(session, job, item) for item in items}
    to_draw = [item for item in items if known[item.index] is None]
    base = dict(zip((item.index for item in to_draw), _draw(job.base, to_draw), strict=True))
    aligned = _draw(job.aligned, items)
    made: dict[int, str] = {}
    with context.database.write() as session:
        for item, columns in zip(items, aligned, strict=True):
            image_id = known[item.index]
            if image_id is None:
                image_id = _add(session, job.base, "base", item, base[item.index])
            made[item.index] = add_comparison(
                session,
                comparison_id=context.item_id("comparison", item.index),
                prompt_id=item.prompt.id,
                seed=item.seed,
                base_image_id=image_id,
                aligned_image_id=_add(session, job.aligned, "aligned", item, columns),
                round_id=job.asked.round_id,
                adapter_id=job.aligned.adapter_id,
                scale=job.asked.scale,
            ).id
    return made


def _base_image(session: Session, job: _Job, item: _Item) -> str | None:
    found = find_image(session, prompt_id=item.prompt.id, seed=item.seed, **job.base.made_with())
    return None if found is None else found.id


def _draw(painter: Painter, items: Sequence[_Item]) -> list[dict[str, Any]]:
    if not items:
        return []
    drawn = painter.paint([item.prompt.text for item in items], [item.seed for item in items])
    return [keep(painter.context.files, one) for one in drawn]


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
