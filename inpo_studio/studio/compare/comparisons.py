"""Comparisons: pictures of the same prompts and seeds by any two of base and rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inpo_studio.configs import GenerationConfig
from inpo_studio.engine import BRIEF, USUAL
from inpo_studio.studio import Studio
from inpo_studio.studio.errors import StudioError
from inpo_studio.studio.label.prompts import comparison_prompts
from storage.comparisons import get_comparison
from storage.schema import Comparison, Prompt, Round

Side = str | None
"""What may be compared: the id of a round that is done, or None, the base model."""


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
    base_round: Round | None = None,
    generation: GenerationConfig | None = None,
    scale: float = 1.0,
    attributes: Mapping[str, str] | None = None,
) -> ComparisonRequest:
    """Ask the worker for pictures of every prompt and seed by both sides.

    The aligned side is `round_` with its adapter at `scale`; the other one is `base_round`, or the
    base model. New prompts are held out for good. A single comparison goes before work that
    takes longer. `attributes` are kept beside the job. Raises StudioError for sides that cannot
    be compared.
    """
    _check_sides(round_, base_round)
    prompts = comparison_prompts(studio, texts)
    job_id = studio.engine.enqueue(
        "comparisons",
        {
            "prompt_ids": [prompt.id for prompt in prompts],
            "seeds": list(seeds),
            "round_id": round_.id,
            "base_round_id": None if base_round is None else base_round.id,
            "generation": (generation or GenerationConfig()).model_dump(),
            "scale": scale,
        },
        priority=BRIEF if len(prompts) * len(seeds) == 1 else USUAL,
        attributes=attributes,
    )
    return ComparisonRequest(job_id, round_, prompts, list(seeds))


def _check_sides(round_: Round, base_round: Round | None) -> None:
    for side in (round_, base_round):
        if side is not None and (side.state != "done" or side.adapter_id is None):
            raise StudioError(
                f"Round {side.number} is {side.state} and has no adapter to compare with."
            )
    if base_round is not None and base_round.id == round_.id:
        raise StudioError("Both sides are the same round; choose another one to compare with.")
    if base_round is not None and base_round.model != round_.model:
        raise StudioError("The two rounds are of different models; choose two of one model.")


def get_comparisons(studio: Studio, ids: Sequence[str]) -> list[Comparison]:
    """Return comparisons in the order of their ids."""
    with studio.database.read() as session:
        return [get_comparison(session, comparison_id) for comparison_id in ids]
