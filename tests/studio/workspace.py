"""A workspace with pairs, made without any model: the pictures are plain colours."""

from __future__ import annotations

from PIL import Image

from inpo_studio.studio import Studio
from storage.images import add_image
from storage.pairs import add_pair
from storage.prompts import add_prompts
from storage.rounds import claim_attempt, create_round, set_state
from storage.schema import Pair, Round


def add_pairs(
    studio: Studio,
    count: int,
    *,
    prompts: int = 4,
    model: str | None = None,
    adapter_id: str | None = None,
) -> list[Pair]:
    """Add pairs of two colours each, spread over so many prompts."""
    hashes = [
        studio.files.put_image(Image.new("RGB", (8, 8), (200 if left else 20, 90, index % 256)))
        for index in range(count)
        for left in (True, False)
    ]
    with studio.database.write() as session:
        texts = [f"a field number {index}" for index in range(prompts)]
        made = add_prompts(session, texts, source="own", kind="label")
        pairs = []
        for index in range(count):
            prompt = made[index % prompts]
            images = [
                add_image(
                    session,
                    sha256=hashes[2 * index + side],
                    width=8,
                    height=8,
                    prompt_id=prompt.id,
                    seed=2 * index + side,
                    model=model or studio.settings.model,
                    adapter_id=adapter_id,
                    adapter_on=adapter_id and "prompt",
                    guidance=3.0,
                    steps=20,
                )
                for side in (0, 1)
            ]
            pairs.append(
                add_pair(
                    session,
                    prompt_id=prompt.id,
                    first_image_id=images[0].id,
                    second_image_id=images[1].id,
                )
            )
    return pairs


def add_done_round(studio: Studio) -> Round:
    """Add a round that has ended with an adapter, as training would leave it."""
    from storage.adapters import add_adapter

    model = studio.settings.model
    with studio.database.write() as session:
        made = create_round(session, model=model, config={}, seed=0, total_steps=4)
        attempt = claim_attempt(session, made.id)
        add_adapter(
            session,
            sha256=f"{made.number:064x}",
            folder=f"adapters/{made.id}",
            model=model,
            rank=4,
            alpha=4.0,
            step=4,
            round_id=made.id,
            attempt=attempt,
        )
        return set_state(session, made.id, "done", attempt=attempt)
