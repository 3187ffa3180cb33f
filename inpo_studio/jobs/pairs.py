"""Making pairs: two pictures of one prompt, the second a variation of the first.

A pair that differs in fewer things says more of what was liked, and is quicker to judge.

Ids and seeds are functions of the job and the pair's index, so a job that is taken up again
after a crash makes what is missing and nothing twice.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from inpo_studio.configs import GenerationConfig
from inpo_studio.jobs.context import JobContext, JobFailed
from inpo_studio.jobs.pictures import Painter, adapter_folder, drawn_by, keep, read_prompts
from inpo_studio.seeds import Variation, derive_seed
from storage.images import add_image
from storage.pairs import add_pair
from storage.schema import Pair, Prompt, new_id

SEED_BITS = 32
"""Seeds of pictures fit into 32 bits: other tools and browsers take no longer ones."""


class PairsPayload(BaseModel):
    """What a `pairs` job is told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt_ids: list[str]
    count: int = Field(ge=1)
    seed: int = Field(ge=0)
    generation: GenerationConfig
    model: str
    adapter_id: str | None = None
    variation: float = Field(1.0, gt=0, le=1)
    """How far the second picture's noise is turned from the first's. 1 is a seed of its own, and
    what jobs meant that are older than this."""


@dataclass(frozen=True)
class _Item:
    pair_id: str
    prompt: Prompt
    seeds: tuple[int, int]
    variation: float

    def drawn_from(self) -> tuple[int, int | Variation]:
        """What the noise of the first and of the second picture is drawn from."""
        first, second = self.seeds
        if self.variation == 1:
            return first, second
        return first, Variation(first, second, self.variation)


def run(context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Make `count` pairs, the prompts in turn; returns their ids in order."""
    asked = PairsPayload.model_validate(payload)
    folder = None
    with context.database.read() as session:
        prompts = read_prompts(session, asked.prompt_ids)
        if any(prompt.split == "held_out" for prompt in prompts):
            raise JobFailed("Pairs cannot be made on held-out prompts; leave them out.")
        if asked.adapter_id is not None:
            folder = adapter_folder(context, session, asked.adapter_id)
        generation = drawn_by(session, asked.adapter_id, asked.generation)
        items = [
            _Item(
                context.item_id("pair", index),
                prompts[index % len(prompts)],
                pair_seeds(asked.seed, index),
                asked.variation,
            )
            for index in range(asked.count)
        ]
        missing = [item for item in items if session.get(Pair, item.pair_id) is None]
    done = asked.count - len(missing)
    context.progress(done, asked.count)
    if missing:
        pipeline = context.pipelines.get(asked.model)
        painter = Painter(context, pipeline, generation, asked.adapter_id, folder)
        together = max(1, asked.generation.batch_size // 2)
        for start in range(0, len(missing), together):
            context.checkpoint()
            _make(painter, missing[start : start + together])
            done += len(missing[start : start + together])
            context.progress(done, asked.count)
            if done < asked.count:
                context.give_way()
    return {"pair_ids": [item.pair_id for item in items]}


def make_pair(
    context: JobContext, prompt_id: str, adapter_id: str | None, generation: GenerationConfig
) -> str:
    """Make one pair by itself, of the studio's model and seeds of chance; returns its id."""
    folder = None
    with context.database.read() as session:
        (prompt,) = read_prompts(session, [prompt_id])
        if adapter_id is not None:
            folder = adapter_folder(context, session, adapter_id)
        generation = drawn_by(session, adapter_id, generation)
    seeds = pair_seeds(secrets.randbits(SEED_BITS), 0)
    item = _Item(new_id(), prompt, seeds, context.settings.variation)
    pipeline = context.pipelines.get(context.settings.model)
    _make(Painter(context, pipeline, generation, adapter_id, folder), [item])
    return item.pair_id


def pair_seeds(seed: int, index: int) -> tuple[int, int]:
    """Return the two different seeds of the pair at `index`, a function of the job's seed."""
    drawn = (derive_seed("pair", seed, index, side) % 2**SEED_BITS for side in range(9))
    first = next(drawn)
    return first, next(other for other in drawn if other != first)


def _make(painter: Painter, items: Sequence[_Item]) -> None:
    """Draw some pairs in one batch, keep the files, then write all their rows at once."""
    context = painter.context
    texts = [item.prompt.text for item in items for _ in item.seeds]
    drawn = painter.paint(texts, [seed for item in items for seed in item.drawn_from()])
    kept = [keep(context.files, one) for one in drawn]
    made_with = painter.made_with()
    with context.database.write() as session:
        for place, item in enumerate(items):
            images = [
                add_image(
                    session,
                    image_id=context.item_id("image", item.pair_id, side),
                    prompt_id=item.prompt.id,
                    **kept[2 * place + side],
                    **{**made_with, **_seed_columns(seed)},
                ).id
                for side, seed in enumerate(item.drawn_from())
            ]
            add_pair(
                session,
                pair_id=item.pair_id,
                prompt_id=item.prompt.id,
                first_image_id=images[0],
                second_image_id=images[1],
            )


def _seed_columns(seed: int | Variation) -> dict[str, Any]:
    """The columns of a picture's row that say what its noise was drawn from."""
    if not isinstance(seed, Variation):
        return {"seed": seed}
    return {
        "seed": seed.seed,
        "variation_seed": seed.variation_seed,
        "variation_strength": seed.strength,
    }
