"""Pairs: asking for more, and what waits to be labelled."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from inpo_studio.configs import GenerationConfig
from inpo_studio.studio import Studio
from inpo_studio.studio.label.prompts import label_prompts
from storage.model_states import adopted_round
from storage.pairs import count_ready


@dataclass(frozen=True)
class PairsRequest:
    """Pairs that were asked for: the job that makes them and what it was told."""

    job_id: str
    count: int
    prompts: int
    seed: int


def request_pairs(
    studio: Studio,
    texts: Sequence[str],
    count: int,
    *,
    seed: int | None = None,
    generation: GenerationConfig | None = None,
) -> PairsRequest:
    """Ask the worker for `count` pairs, spread evenly over the prompts, by the present policy.

    A seed of None is drawn at random and returned. Raises HeldOutPrompt, with nothing written,
    when a prompt is kept for comparisons.
    """
    prompts = label_prompts(studio, texts)
    seed = secrets.randbits(32) if seed is None else seed
    with studio.database.read() as session:
        adapter_id = policy_adapter(session, studio.settings.model)
    job_id = studio.engine.enqueue(
        "pairs",
        {
            "prompt_ids": [prompt.id for prompt in prompts],
            "count": count,
            "seed": seed,
            "generation": (generation or GenerationConfig()).model_dump(),
            "model": studio.settings.model,
            "adapter_id": adapter_id,
            "variation": studio.settings.variation,
        },
    )
    return PairsRequest(job_id, count, len(prompts), seed)


def ready_count(studio: Studio, annotator: str | None = None) -> int:
    """Count the pairs of the present policy that wait to be labelled."""
    model = studio.settings.model
    with studio.database.read() as session:
        return count_ready(session, model, policy_adapter(session, model), annotator)


def policy_adapter(session: Session, model: str) -> str | None:
    """Return the adapter that new pairs of a model are made with; None is the base model."""
    adopted = adopted_round(session, model)
    return None if adopted is None else adopted.adapter_id
