"""What a round needs to know, read from the database before any model is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError
from sqlalchemy.orm import Session

from inpo_studio.configs import GenerationConfig, RoundConfig
from inpo_studio.settings import Settings
from inpo_studio.training.dataset import FrozenPair
from inpo_studio.training.prepare import ImageSource, RoundInputs
from inpo_studio.training.samples import MOST_STEPS, SamplePlan, SamplePrompt
from storage.adapters import get_adapter
from storage.files import FileStore
from storage.guiding import adapter_on
from storage.prompts import list_prompts
from storage.rounds import get_round, round_pairs
from storage.samples import list_samples
from storage.schema import Image, Prompt, RoundPair


def read_inputs(session: Session, settings: Settings, round_id: str) -> RoundInputs:
    """Model, configuration, frozen pairs with their files, parent's adapter, sample prompts.

    Raises ValueError, in one sentence, where the parent has no adapter.
    """
    files = FileStore(settings.files)
    row = get_round(session, round_id)
    frozen = round_pairs(session, round_id)
    parent, parent_sha256 = None, ""
    if row.parent_id is not None:
        before = get_round(session, row.parent_id)
        if before.adapter_id is None:
            raise ValueError(f"Round {before.number} has no adapter to start from.")
        adapter = get_adapter(session, before.adapter_id)
        parent = settings.workspace / adapter.folder
        parent_sha256 = adapter.sha256
    config = RoundConfig.model_validate({**row.config, "seed": row.seed})
    images = {i.id: i for pair in frozen for i in (pair.winner_image, pair.loser_image)}
    return RoundInputs(
        model=row.model,
        config=config,
        pairs=[_frozen(pair) for pair in frozen],
        images={key: _source(files, image) for key, image in images.items()},
        parent=parent,
        parent_sha256=parent_sha256,
        device=settings.device,
        samples=_sample_plan(session, round_id, config, frozen),
    )


def _frozen(pair: RoundPair) -> FrozenPair:
    return FrozenPair(
        pair_id=pair.choice_id,
        prompt=pair.prompt.text,
        winner=pair.winner_image.id,
        loser=pair.loser_image.id,
        preference=pair.preference,
        split=pair.split,
    )


def _source(files: FileStore, image: Image) -> ImageSource:
    latents = None
    if image.latents_sha256 is not None:
        latents = files.path("latents", image.latents_sha256, ".safetensors")
    return ImageSource(latents=latents, picture=files.image_path(image.sha256))


def _sample_plan(
    session: Session, round_id: str, config: RoundConfig, frozen: Sequence[RoundPair]
) -> SamplePlan | None:
    """What the sample pictures are drawn of; a round that goes on keeps the prompts it had."""
    if not (config.sample_every and config.sample_prompts and frozen):
        return None
    begun = list_samples(session, round_id)
    if begun:
        first = [sample for sample in begun if sample.step == begun[0].step]
        prompts = [SamplePrompt(s.prompt.id, s.prompt.text, s.seed) for s in first]
    else:
        prompts = [
            SamplePrompt(prompt.id, prompt.text, prompt.position)
            for prompt in _sample_prompts(session, config.sample_prompts)
        ]
    made_with = _generation(frozen[0].winner_image, config.micro_batch_pairs)
    side = adapter_on(session, get_round(session, round_id))
    generation = made_with.model_copy(update={"adapter_on": side})
    return SamplePlan(tuple(prompts), generation) if prompts else None


def _sample_prompts(session: Session, count: int) -> list[Prompt]:
    """Validation prompts and then train ones, in each split the user's own before the starters.

    Never held-out ones: those are for verdicts, and are to be seen there first.
    """
    chosen: list[Prompt] = []
    for split in ("validation", "train"):
        if len(chosen) < count:
            found = list_prompts(session, split)
            chosen += sorted(found, key=lambda prompt: prompt.source == "starter")
    return chosen[:count]


def _generation(image: Image, batch_size: int) -> GenerationConfig:
    """The settings a chosen picture was made with, in few steps; the usual ones if unknown."""
    size = {"width": image.width, "height": image.height, "batch_size": batch_size}
    made_with = {
        "guidance": image.guidance,
        "steps": min(image.steps, MOST_STEPS),
        "negative_prompt": image.negative_prompt,
    }
    try:
        return GenerationConfig.model_validate({**size, **made_with})
    except ValidationError:  # an imported picture may not say how it was made
        return GenerationConfig.model_validate({**size, "steps": MOST_STEPS})
