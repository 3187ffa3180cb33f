"""The last stage of a round: comparisons on prompts it has not seen."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any

from sqlalchemy.orm import Session

from inpo_studio.configs import GenerationConfig
from inpo_studio.jobs import comparisons
from inpo_studio.jobs.context import JobContext
from storage.prompts import list_prompts
from storage.rounds import get_round, round_pairs, update_progress
from storage.timings import machine_name, note_timings

SAMPLE_PROMPTS = 4
SAMPLE_SEEDS = (0,)

log = logging.getLogger("inpo_studio.jobs.rounds")


def render(context: JobContext, round_id: str) -> dict[str, Any]:
    """Draw a few held-out prompts with base and aligned; the round is done without them too."""
    begun = time.monotonic()
    with context.database.read() as session:
        prompts = list_prompts(session, "held_out")[:SAMPLE_PROMPTS]
        generation = _generation(session, round_id)
    if not prompts:
        return {}
    try:
        with context.database.write() as session:
            attempt = get_round(session, round_id).attempt
            update_progress(session, round_id, attempt, stage="render")
        asked = {
            "prompt_ids": [prompt.id for prompt in prompts],
            "seeds": list(SAMPLE_SEEDS),
            "round_id": round_id,
            "generation": generation.model_dump(),
        }
        made = comparisons.run(context, asked)
    except Exception:
        log.exception("round %s: its samples could not be drawn", round_id)
        return {}
    _note_seconds(context, round_id, time.monotonic() - begun)
    return made


def _generation(session: Session, round_id: str) -> GenerationConfig:
    """The settings of the pictures that were chosen between."""
    frozen = round_pairs(session, round_id)
    names = ("guidance", "steps", "width", "height", "negative_prompt")
    made_with = {name: getattr(frozen[0].winner_image, name) for name in names} if frozen else {}
    return GenerationConfig.model_validate(made_with)


def _note_seconds(context: JobContext, round_id: str, seconds: float) -> None:
    """For estimates of later rounds; a round without this figure is as good."""
    settings = context.settings
    folder = settings.workspace / "rounds" / round_id
    with contextlib.suppress(OSError):
        note_timings(folder, machine_name(settings.device, settings.threads), end_s=seconds)
