"""From a round's facts to a trainer: model, adapters, latents, inversions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion.conditioning import Conditioning, empty_conditioning, encode_prompts
from inpo_studio.diffusion.fitting import fit_training, refuse_early
from inpo_studio.diffusion.latents import encode_images
from inpo_studio.diffusion.loading import Pipeline, load_pipeline
from inpo_studio.diffusion.memory import MOST_PREDICTED, Plan
from inpo_studio.inpo.inversion import level_grid
from inpo_studio.training.batch import Batches
from inpo_studio.training.cache import InversionKey, evict
from inpo_studio.training.dataset import FrozenPair, TrainingData, collate
from inpo_studio.training.errors import predict_reference
from inpo_studio.training.inverting import inverted_by_reference, policy_inverter
from inpo_studio.training.loop import Trainer
from inpo_studio.training.policy import Policy
from inpo_studio.training.samples import SamplePlan, Sampler
from inpo_studio.training.together import ALONE, Together

log = logging.getLogger("inpo_studio.round")


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
    samples: SamplePlan | None = None
    """What pictures are drawn of on the way; None draws none."""


@dataclass(frozen=True)
class Prepared:
    """A trainer at step 0, and what a checkpoint must have been written with to be taken up."""

    trainer: Trainer
    facts: Mapping[str, object]
    sampler: Sampler | None


def prepare(
    inputs: RoundInputs,
    cache: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    together: Together = ALONE,
    tell: Callable[[str], None] = log.warning,
) -> Prepared:
    """Load the model, encode, invert by the reference, and free what training does not need.

    ``cache`` is the folder of inversions; ``on_progress(done, total)`` counts inverted images and
    may raise to stop. ``tell`` is told in one sentence where memory is small, or runs out. Raises
    OutOfMemory where the round cannot fit.
    """
    refuse_early(inputs.model, inputs.device, inputs.config, _pixels(inputs))
    pipeline = load_pipeline(inputs.model, device=inputs.device, dtype=inputs.config.dtype)
    data = collate(
        inputs.pairs, lambda ids: _load_latents(pipeline, [inputs.images[i] for i in ids])
    )
    prompts = condition(pipeline, data.prompts, _pixels(inputs))
    sampler = None if inputs.samples is None else Sampler(pipeline, inputs.samples)
    pipeline.release_encoders()
    if sampler is not None:
        sampler.rest()
    policy = Policy.build(pipeline, inputs.config, inputs.parent)
    policy.at_once.tell = tell
    if policy.compiled is not None:
        policy.compiled.tell = tell
    plan = _fit(policy, inputs, sampler, together)
    reference = f"{pipeline.fingerprint}:{inputs.parent_sha256}"
    batches = build_batches(
        policy, inputs.config, data, prompts, reference, cache, on_progress, together
    )
    batches.use(plan.micro_batch_pairs)
    if together.leads:
        evict(cache)  # afterwards: what this round reads is of use
    facts = {
        # What only shows the training may change: the bytes it ends in do not depend on it.
        "configuration": inputs.config.model_dump(exclude={"sample_every", "sample_prompts"}),
        "reference": reference,
        "pairs": [pair.pair_id for pair in inputs.pairs],
    }
    return Prepared(Trainer(policy, batches, inputs.config), facts, sampler)


def _fit(policy: Policy, inputs: RoundInputs, sampler: Sampler | None, together: Together) -> Plan:
    """Plan the round for the memory that is free, and say so where it has to be frugal."""
    config, tell = inputs.config.model_copy(update={"rank": policy.rank}), policy.at_once.tell
    plan = fit_training(policy.pipeline, config, _pixels(inputs), together.size)
    log.info("how it fits: %s", plan.sentence)
    if plan.predicted_at_once < MOST_PREDICTED:
        policy.at_once.most = plan.predicted_at_once
    mine = -(-config.batch_pairs // together.size)
    if plan.gradient_checkpointing or plan.micro_batch_pairs < min(config.micro_batch_pairs, mine):
        pairs = "1 pair" if plan.micro_batch_pairs == 1 else f"{plan.micro_batch_pairs} pairs"
        slower = ", in slower steps that need less" if plan.gradient_checkpointing else ""
        tell(f"Memory is small here, so the round takes {pairs} at once{slower}.")
    if sampler is not None:
        sampler.at_once.tell = tell
        sampler.at_once.most = min(sampler.at_once.most or 1, plan.pictures_at_once)
    return plan


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
    together: Together = ALONE,
) -> Batches:
    """Invert what the configuration needs inverted, by ``policy``'s reference.

    ``reference`` is the reference's fingerprint, for the cache; ``prompts`` is from
    :func:`condition`.
    """
    pipeline = policy.pipeline
    grid = level_grid(config.levels, pipeline.schedule.num_timesteps)
    noise = f"{config.inversion_eta}:{config.seed}" if config.inversion_eta else ""
    key = InversionKey(reference, grid, _arithmetic(pipeline), noise)
    inversions = empty = invert_now = None
    inverted = partial(
        inverted_by_reference,
        *(policy, config, data, prompts, key, cache),
        on_progress=on_progress,
        together=together,
    )
    if config.needs_inversion:
        inversions = inverted(empty=False)
        if config.prompt_dropout > 0:
            empty = inverted(empty=True)
    elif config.noise_source == "inverted" and config.noise_mixing < 1:
        invert_now = policy_inverter(policy, config, grid)
    refer = partial(predict_reference, policy)
    return Batches(
        *(config, data, pipeline.schedule, grid, prompts, refer),
        inversions,
        empty,
        invert_now,
        together,
    )


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
