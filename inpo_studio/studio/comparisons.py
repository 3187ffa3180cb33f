"""Comparisons: base and aligned pictures of the same prompts and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inpo_studio.configs import GenerationConfig
from inpo_studio.studio import Studio
from inpo_studio.studio.errors import StudioError
from inpo_studio.studio.prompts import comparison_prompts
from storage.comparisons import get_comparison
from storage.schema import Comparison, Prompt, Round


@dataclass(frozen=True)
class ComparisonRequest:
    """Comparisons that were asked for: the job that makes them, and of what."""

    job_id: str
    round: Round
    prompts: list[Prompt]
    seeds: list[int]

    @property
    def labelled(self) -> int:
        """How many of the prompts are labelled by too, and so say less."""
        return sum(prompt.split != "held_out" for prompt in self.prompts)


def request_comparisons(
    studio: Studio,
    round_: Round,
    texts: Sequence[str],
    seeds: Sequence[int],
    *,
    generation: GenerationConfig | None = None,
    scale: float = 1.0,
) -> ComparisonRequest:
    """Ask the worker for base and aligned pictures of every prompt and seed."""
    if round_.state != "done" or round_.adapter_id is None:
        raise StudioError(
            f"Round {round_.number} is {round_.state} and has no adapter to compare with."
        )
    prompts = comparison_prompts(studio, texts)
    job_id = studio.engine.enqueue(
        "comparisons",
        {
            "prompt_ids": [prompt.id for prompt in prompts],
            "seeds": list(seeds),
            "round_id": round_.id,
            "generation": (generation or GenerationConfig()).model_dump(),
            "scale": scale,
        },
    )
    return ComparisonRequest(job_id, round_, prompts, list(seeds))


def get_comparisons(studio: Studio, ids: Sequence[str]) -> list[Comparison]:
    """Return comparisons in the order of their ids."""
    with studio.database.read() as session:
        return [get_comparison(session, comparison_id) for comparison_id in ids]
