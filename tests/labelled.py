"""Pairs that were chosen on, without any model: plain pictures, and latents from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image as Picture

from inpo_studio.configs import RoundConfig
from inpo_studio.settings import Settings
from inpo_studio.studio import Studio, open_studio
from storage.choices import record_choice
from storage.images import add_image
from storage.pairs import add_pair
from storage.prompts import add_prompts
from storage.rounds import create_round
from storage.schema import Answer, Choice

ROUND = "the-round"
PAIRS = 12


def add_chosen_pairs(
    studio: Studio,
    count: int,
    *,
    model: str,
    answers: Sequence[Answer] = ("left",),
    size: tuple[int, int] = (16, 16),
    latents: tuple[int, int, int] | None = None,
    annotator: str = "me",
    adapter_id: str | None = None,
    named: str = "a hill",
) -> list[Choice]:
    """One pair for each of `count` prompts, answered in turn with `answers`.

    `latents` is the shape of the final latents that are kept; None keeps none.
    """
    columns = {
        "width": size[0],
        "height": size[1],
        "model": model,
        "adapter_id": adapter_id,
        "guidance": 3.0,
        "steps": 2,
    }
    chosen = []
    with studio.database.write() as session:
        prompts = add_prompts(session, [f"{named} {i}" for i in range(count)], source="own")
        for index, prompt in enumerate(prompts):
            images = [
                add_image(
                    session,
                    sha256=studio.files.put_image(
                        Picture.new("RGB", size, (20 * index % 256, 90 * side, 7))
                    ),
                    latents_sha256=None
                    if latents is None
                    else _keep_latents(studio, latents, 2 * index + side),
                    prompt_id=prompt.id,
                    seed=side,
                    **columns,  # type: ignore[arg-type]
                )
                for side in range(2)
            ]
            pair = add_pair(
                session,
                prompt_id=prompt.id,
                first_image_id=images[0].id,
                second_image_id=images[1].id,
            )
            choice = record_choice(
                session,
                key=f"{annotator}-{pair.id}",
                pair_id=pair.id,
                choice=answers[index % len(answers)],
                left_image_id=images[0].id,
                right_image_id=images[1].id,
                annotator=annotator,
            )
            chosen.append(choice)
    return chosen


def _keep_latents(studio: Studio, shape: tuple[int, int, int], seed: int) -> str:
    import torch
    from safetensors.torch import save

    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return studio.files.put_bytes("latents", save({"latents": drawn}), ".safetensors")


def queued_round(folder: Path, model: str, config: RoundConfig, pairs: int = PAIRS) -> Settings:
    """A workspace with chosen pairs for a tiny model and a queued round of them, ROUND."""
    settings = Settings(workspace=folder, model=model, device="cpu", threads=1)
    studio = open_studio(settings)
    add_chosen_pairs(
        studio,
        pairs,
        model=model,
        answers=("left", "right", "tie"),
        size=(64, 64),
        latents=(4, 8, 8),
    )
    with studio.database.write() as session:
        create_round(
            session,
            model=model,
            config=config.model_dump(),
            seed=3,
            total_steps=config.steps,
            job_id="round-job",
            round_id=ROUND,
        )
    studio.close()
    return settings
