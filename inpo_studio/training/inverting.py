"""Inversion with the networks at hand: by the reference, cached, or by the policy, every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion.conditioning import Conditioning
from inpo_studio.inpo.inversion import invert, invert_to, level_above
from inpo_studio.seeds import derive_seed
from inpo_studio.training.cache import CachedInversion, InversionKey, cached_inversions
from inpo_studio.training.dataset import TrainingData
from inpo_studio.training.policy import Policy
from inpo_studio.training.together import ALONE, Together

InvertNow = Callable[[Tensor, Conditioning, Tensor, Sequence[int]], Tensor]
"""From x_0 (n, c, h, w), its conditioning, the index of each image's level (n,) and a seed for
each image's noise, to x_t (n, c, h, w) on the CPU."""


def inverted_by_reference(
    policy: Policy,
    config: RoundConfig,
    data: TrainingData,
    prompts: Conditioning,
    key: InversionKey,
    cache: Path,
    *,
    empty: bool,
    on_progress: Callable[[int, int], None],
    together: Together = ALONE,
) -> CachedInversion:
    """Every image inverted under its own prompt, or under the empty one, from the cache or now.

    With eta, an image's noise is a function of its entry's name, and so of the round's seed.
    Raises OutOfMemory where not even one image fits the device.
    """
    pipeline = policy.pipeline
    last = torch.full_like(data.image_prompt, len(data.prompts))
    prompt_of = last if empty else data.image_prompt
    texts = [(*data.prompts, "")[index] for index in prompt_of.tolist()]

    def invert_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
        conditioning = prompts.take(prompt_of[rows]).to(pipeline.device)

        def denoise(x_t: Tensor, timestep: int) -> Tensor:
            timesteps = torch.full((len(x_t),), timestep, device=x_t.device)
            return policy.predict_reference(x_t, timesteps, conditioning)

        generators = None
        if config.inversion_eta:
            entries = [key.entry(data.x_0[row], texts[row]) for row in rows.tolist()]
            seeds = [derive_seed("inversion", entry) for entry in entries]
            generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        x_0 = data.x_0[rows].to(pipeline.device)
        found = invert(
            denoise, x_0, pipeline.schedule, key.levels, config.inversion_eta, generators
        )
        return found.x_t, found.noise_pred

    return cached_inversions(
        *(cache, key, data.x_0, texts, invert_rows, on_progress, together),
        # Where a pair shares its x_t, that is another place, and so is the reference there.
        with_predictions=config.reference_repeats and config.noise_sharing == "own",
        # No step looks at the levels before it.
        lowest=int(level_above(key.levels, torch.tensor([config.lowest_timestep]))[0]),
    )


def policy_inverter(policy: Policy, config: RoundConfig, grid: Sequence[int]) -> InvertNow:
    """Inversion up ``grid`` by the weights the policy has at the time, as published."""
    pipeline = policy.pipeline

    def invert_now(
        x_0: Tensor, conditioning: Conditioning, depth: Tensor, seeds: Sequence[int]
    ) -> Tensor:
        told = conditioning.to(pipeline.device)

        def denoise(x_t: Tensor, timestep: int, rows: Tensor) -> Tensor:
            return policy.predict(x_t, torch.full((len(x_t),), timestep), told.take(rows))

        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        place = x_0.to(pipeline.device)
        eta = config.inversion_eta
        found = invert_to(denoise, place, pipeline.schedule, grid, depth, eta, generators)
        return found.cpu()

    return invert_now
