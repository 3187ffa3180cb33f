"""Pictures that the Compare page waits for: asked for, watched and stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from inpo_studio.configs import GenerationConfig
from inpo_studio.engine import JobState, JobStatus
from inpo_studio.studio import Studio
from inpo_studio.studio.compare.comparisons import get_comparisons, request_comparisons
from inpo_studio.studio.compare.views import View, drawn_so, sides_of
from inpo_studio.studio.errors import StudioError
from storage.comparisons import list_comparisons
from storage.progress import get_progress
from storage.prompts import find_prompt
from storage.schema import Comparison

KIND = "comparisons"
VIEW = "view"
"""The attribute of a job that holds the name of the view it draws for."""
ALONE = "alone"
"""Its value for a single picture that a person waits for."""
MOST_STRENGTH = 1.5


@dataclass(frozen=True)
class Drawing:
    """How far the pictures of a view are; `failure` is one sentence where they failed."""

    state: JobState
    done: int
    total: int
    failure: str = ""


@dataclass(frozen=True)
class Single:
    """One comparison that was asked for by itself: the job that draws it, or the row."""

    job_id: str | None
    comparison: Comparison | None = None
    state: JobState = "done"
    failure: str = ""


def drawing(studio: Studio, name: str) -> Drawing | None:
    """Return how far a view's pictures are; None where none are being drawn and none failed."""
    at_work = _at_work(studio, name)
    if at_work:
        with studio.database.read() as session:
            rows = [get_progress(session, job.job_id) for job in at_work]
        running = any(job.state == "running" or row for job, row in zip(at_work, rows, strict=True))
        return Drawing(
            "running" if running else "queued",
            sum(row.done for row in rows if row is not None),
            sum(
                int(job.attributes.get("cells", 0)) if row is None else row.total
                for job, row in zip(at_work, rows, strict=True)
            ),
        )
    latest = studio.engine.latest(KIND)
    if latest is None or latest.state != "failed" or latest.attributes.get(VIEW) != name:
        return None
    return Drawing("failed", 0, 0, latest.error or "The pictures could not be drawn.")


def draw_cells(
    studio: Studio, view: View, cells: Sequence[tuple[str, int]], *, again: bool = False
) -> None:
    """Ask for the pictures of these (prompt, seed) cells; one job draws them all.

    While pictures of this view are being drawn nothing is asked for, unless `again`.
    """
    if not cells or (not again and _at_work(studio, view.name)):
        return
    with studio.database.read() as session:
        aligned, base = sides_of(studio, session, view)
    texts = list(dict.fromkeys(text for text, _ in cells))
    seeds = sorted({seed for _, seed in cells})
    request_comparisons(
        studio,
        aligned,
        texts,
        seeds,
        base_round=base,
        generation=view.generation,
        attributes={VIEW: view.name, "cells": str(len(texts) * len(seeds))},
    )


def stop_drawing(studio: Studio, name: str) -> None:
    """Cancel the jobs that draw for a view; what they have drawn stays."""
    for job in _at_work(studio, name):
        studio.engine.cancel(job.job_id)


def draw_one(studio: Studio, view: View, text: str, seed: int, strength: float) -> Single:
    """Return one comparison where it is there already; else ask for it, before longer work.

    A prompt that is new is held out for good. Raises StudioError for a strength that is not
    between 0 and MOST_STRENGTH.
    """
    if not 0.0 <= strength <= MOST_STRENGTH:
        raise StudioError(f"The strength must be between 0 and {MOST_STRENGTH}.")
    found = _find(studio, view, text, seed, strength)
    if found is not None:
        return Single(None, found)
    with studio.database.read() as session:
        aligned, base = sides_of(studio, session, view)
    asked = request_comparisons(
        studio,
        aligned,
        [text],
        [seed],
        base_round=base,
        generation=view.generation,
        scale=strength,
        attributes={VIEW: ALONE},
    )
    return Single(asked.job_id, state="queued")


def warm_up(studio: Studio, view: View) -> None:
    """Have the worker load the model before the first picture is asked for.

    It asks for a comparison that exists, so that nothing is drawn; without one nothing is done.
    """
    if view.round_id is None or studio.engine.unfinished(KIND):
        return
    with studio.database.read() as session:
        aligned, base = sides_of(studio, session, view)
        row = next(
            (
                row
                for row in list_comparisons(session, aligned.id, base_round_id=view.base)
                if row.scale == 1.0 and row.adapter_id == aligned.adapter_id
            ),
            None,
        )
    if row is None:
        return
    image = row.aligned_image
    request_comparisons(
        studio,
        aligned,
        [row.prompt.text],
        [row.seed],
        base_round=base,
        generation=GenerationConfig(
            guidance=image.guidance,
            steps=image.steps,
            adapter_on=image.adapter_on or view.adapter_on,
        ),
        attributes={VIEW: "warm"},
    )


def look_at_one(studio: Studio, job_id: str) -> Single:
    """Return how a single comparison stands, with its row once it is there."""
    job = studio.engine.find(job_id)
    if job is None or job.kind != KIND:
        raise StudioError("There is no such picture being drawn; ask for it again.")
    if job.state == "done":
        return Single(job_id, get_comparisons(studio, job.result["comparison_ids"][:1])[0])
    return Single(job_id, None, job.state, (job.error or "") if job.state == "failed" else "")


def cancel_one(studio: Studio, job_id: str) -> None:
    """Cancel a single comparison that is not wanted any more; any other job is left alone."""
    job = studio.engine.find(job_id)
    if job is not None and job.attributes.get(VIEW) == ALONE and not job.finished:
        studio.engine.cancel(job_id)


def _at_work(studio: Studio, name: str) -> list[JobStatus]:
    return [job for job in studio.engine.unfinished(KIND) if job.attributes.get(VIEW) == name]


def _find(studio: Studio, view: View, text: str, seed: int, strength: float) -> Comparison | None:
    """The comparison of a view at some strength, if it has been drawn."""
    with studio.database.read() as session:
        aligned, base = sides_of(studio, session, view)
        prompt = find_prompt(session, text)
        if prompt is None:
            return None
        query = (
            select(Comparison)
            .where(
                Comparison.round_id == aligned.id,
                Comparison.base_round_id.is_not_distinct_from(view.base),
                Comparison.adapter_id == aligned.adapter_id,
                Comparison.prompt_id == prompt.id,
                Comparison.seed == seed,
                Comparison.scale == strength,
            )
            .order_by(Comparison.position.desc())
        )
        by, as_asked = None if base is None else base.adapter_id, drawn_so(session, view)
        return next(
            (
                row
                for row in session.scalars(query)
                if row.base_image.adapter_id == by and as_asked(row)
            ),
            None,
        )
