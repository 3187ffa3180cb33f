"""From a round's facts to a trainer: model, adapters, latents, inversions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion.conditioning import Conditioning, empty_conditioning, encode_prompts
from inpo_studio.diffusion.latents import encode_images
from inpo_studio.diffusion.loading import Pipeline, load_pipeline
from inpo_studio.inpo.inversion import invert, level_grid
from inpo_studio.training.batch import Batches
from inpo_studio.training.cache import CachedInversion, InversionKey, cached_inversions
from inpo_studio.training.dataset import FrozenPair, TrainingData, collate
from inpo_studio.training.loop import Trainer
from inpo_studio.training.policy import Policy


@dataclass(frozen=True)
class ImageSource:
    """Where an image's latents come from: its kept final latents or, if None, its pixels."""

    latents: Path | None
    picture: Path


@dataclass(frozen=True)
class RoundInputs:
    """All that training needs to know of a round, read from the database beforehand."""

    model: str
    config: RoundConfig
    pairs: Sequence[FrozenPair]
    images: dict[str, ImageSource]
    parent: Path | None
    """Folder of the parent's adapter; None where the base model is the reference."""
    parent_sha256: str
    """Hash of the parent's adapter; empty where there is none."""
    device: str


@dataclass(frozen=True)
class Prepared:
    """A trainer at step 0, and what a checkpoint must have been written with to be taken up."""

    trainer: Trainer
    facts: Mapping[str, object]


def prepare(inputs: RoundInputs, cache: Path, on_progress: Callable[[int, int], None]) -> Prepared:
    """Load the model, encode, invert by the reference, and free what training does not need.

    ``cache`` is the folder of inversions; ``on_progress(done, total)`` counts inverted images and
    may raise to stop.
    """
    pipeline = load_pipeline(inputs.model, device=inputs.device, dtype=inputs.config.dtype)
    data = collate(
        inputs.pairs, lambda ids: _load_latents(pipeline, [inputs.images[i] for i in ids])
    )
    prompts = condition(pipeline, data.prompts, _pixels(inputs))
    pipeline.release_encoders()
    policy = Policy.build(pipeline, inputs.config, inputs.parent)
    reference = f"{pipeline.fingerprint}:{inputs.parent_sha256}"
    batches = build_batches(policy, inputs.config, data, prompts, reference, cache, on_progress)
    facts = {
        "configuration": inputs.config.model_dump(),
        "reference": reference,
        "pairs": [pair.pair_id for pair in inputs.pairs],
    }
    return Prepared(Trainer(policy, batches, inputs.config), facts)


def condition(pipeline: Pipeline, prompts: Sequence[str], size: tuple[int, int]) -> Conditioning:
    """Conditioning of ``prompts`` and, last, of the empty prompt."""
    return Conditioning.cat(
        [encode_prompts(pipeline, list(prompts), size), empty_conditioning(pipeline, 1, size)]
    )


def build_batches(
    policy: Policy,
    config: RoundConfig,
    data: TrainingData,
    prompts: Conditioning,
    reference: str,
    cache: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Batches:
    """Invert what the configuration needs inverted, by ``policy``'s reference.

    ``reference`` is the reference's fingerprint, for the cache; ``prompts`` is from
    :func:`condition`.
    """
    pipeline = policy.pipeline
    grid = level_grid(config.levels, pipeline.schedule.num_timesteps)
    key = InversionKey(reference, grid, _arithmetic(pipeline))
    inversions = empty = None
    if config.noise_source == "inverted":
        inversions = _inversions(policy, data, prompts, key, cache, False, on_progress)
        if config.prompt_dropout > 0:
            empty = _inversions(policy, data, prompts, key, cache, True, on_progress)
    return Batches(config, data, pipeline.schedule, grid, prompts, inversions, empty)


def _inversions(
    policy: Policy,
    data: TrainingData,
    prompts: Conditioning,
    key: InversionKey,
    cache: Path,
    empty: bool,
    on_progress: Callable[[int, int], None],
) -> CachedInversion:
    """Every image inverted under its own prompt, or under the empty one."""
    pipeline = policy.pipeline
    last = torch.full_like(data.image_prompt, len(data.prompts))
    prompt_of = last if empty else data.image_prompt
    texts = (*data.prompts, "")

    def invert_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
        conditioning = prompts.take(prompt_of[rows]).to(pipeline.device)

        def denoise(x_t: Tensor, timestep: int) -> Tensor:
            timesteps = torch.full((len(x_t),), timestep, device=x_t.device)
            return policy.predict_reference(x_t, timesteps, conditioning)

        x_0 = data.x_0[rows].to(pipeline.device)
        found = invert(denoise, x_0, pipeline.schedule, key.levels)
        return found.x_t, found.noise_pred

    image_prompts = [texts[index] for index in prompt_of.tolist()]
    return cached_inversions(cache, key, data.x_0, image_prompts, invert_rows, on_progress)


def _load_latents(pipeline: Pipeline, sources: Sequence[ImageSource]) -> Tensor:
    """Scaled latents ``(images, c, h, w)``; pictures without kept latents go through the VAE."""
    rows: list[Tensor] = []
    for source in sources:
        if source.latents is not None:
            rows.append(load_file(source.latents)["latents"].float())
        else:
            with Image.open(source.picture) as picture:
                rows.append(encode_images(pipeline, [picture.convert("RGB")])[0].float().cpu())
    if len({tuple(row.shape) for row in rows}) > 1:
        raise ValueError(
            "The chosen pictures have different sizes: align on pairs of one size at a time."
        )
    return torch.stack(rows)


def _pixels(inputs: RoundInputs) -> tuple[int, int]:
    """Width and height of the chosen pictures (all the same)."""
    first = inputs.images[inputs.pairs[0].winner]
    with Image.open(first.picture) as picture:
        return picture.size


def _arithmetic(pipeline: Pipeline) -> str:
    return f"{pipeline.dtype}:{pipeline.device.type}"
