"""Pictures from prompts and seeds: deterministic DDIM with classifier-free guidance."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from inpo_studio.configs import AdapterOn, GenerationConfig
from inpo_studio.diffusion.conditioning import (
    Conditioning,
    empty_conditioning,
    encode_prompts,
    predict_noise,
)
from inpo_studio.diffusion.fitting import OutOfMemory, is_out_of_memory, release_memory
from inpo_studio.diffusion.latents import decode_latents, initial_noise
from inpo_studio.diffusion.loading import Pipeline
from inpo_studio.diffusion.switching import on_second_half
from inpo_studio.inpo.schedule import ddim_step
from inpo_studio.seeds import Variation

log = logging.getLogger("inpo_studio.diffusion")

OnStep = Callable[[int, int], None]
"""on_step(steps done, steps in all) over all batches; raise in it to stop."""


@dataclass(frozen=True)
class Sample:
    """A picture and the latents it was decoded from."""

    image: Image.Image
    latents: Tensor
    """(c, h, w) scaled, float32, on the CPU: later training needs no VAE encoding."""


@torch.no_grad()
def sample(
    pipeline: Pipeline,
    prompts: Sequence[str],
    seeds: Sequence[int | Variation],
    generation: GenerationConfig,
    *,
    on_step: OnStep | None = None,
) -> list[Sample]:
    """One picture for each prompt and seed, with the adapters that are active.

    The same latents as diffusers' pipelines with DDIMScheduler, given the same initial noise.
    Where the device's memory is too small for `generation.batch_size` pictures at once, fewer are
    drawn together. Raises OutOfMemory when one alone does not fit.
    """
    if len(prompts) != len(seeds):
        raise ValueError(f"{len(prompts)} prompts came with {len(seeds)} seeds; give one each.")
    if not prompts:
        return []
    size = (generation.width or pipeline.size[0], generation.height or pipeline.size[1])
    conditioning, rows = _encode_once(pipeline, prompts, size)
    unguided = _unguided(pipeline, generation, size)
    steps = ddim_timesteps(pipeline.scheduler_config, generation.steps)
    together = min(generation.batch_size, len(prompts))
    samples: list[Sample] = []
    while len(samples) < len(prompts):
        done = len(samples)
        chosen = slice(done, done + together)

        def report(step: int, done: int = done, together: int = together) -> None:
            if on_step is not None:
                batches = math.ceil((len(prompts) - done) / together)
                before = math.ceil(done / together) * len(steps)
                on_step(before + step, before + batches * len(steps))

        noise = initial_noise(pipeline, seeds[chosen], *size)
        guided = conditioning.take(rows[chosen])
        drawn = _draw(pipeline, noise, guided, unguided, generation, steps, report)
        if drawn is None:
            together = _fewer(pipeline, together)
        else:
            samples += drawn
    return samples


def _draw(
    pipeline: Pipeline,
    noise: Tensor,
    guided: Conditioning,
    unguided: Conditioning | None,
    generation: GenerationConfig,
    steps: Sequence[tuple[int, int]],
    report: Callable[[int], None],
) -> list[Sample] | None:
    """Pictures of one batch; None where the device's memory is too small for so many."""
    try:
        x = noise.to(pipeline.device)
        x_0 = denoise(
            *(pipeline, x, guided, unguided, generation.guidance, steps, report),
            adapter_on=generation.adapter_on,
        )
        latents = x_0.float().cpu()
        images = decode_latents(pipeline, latents)
    except (RuntimeError, MemoryError) as problem:
        if not is_out_of_memory(problem):
            raise
        return None
    return [Sample(*pair) for pair in zip(images, latents, strict=True)]


def _fewer(pipeline: Pipeline, together: int) -> int:
    """Half as many pictures at once, after the memory ran out."""
    release_memory(pipeline.device)
    if together == 1:
        raise OutOfMemory(
            "Not even one picture fits into the device's memory; close other programs, draw "
            "smaller pictures, or use a smaller model."
        )
    log.warning("memory ran out at %d pictures at once; trying %d", together, together // 2)
    return together // 2


def ddim_timesteps(config: Mapping[str, Any], steps: int) -> list[tuple[int, int]]:
    """The sampling steps (from, to) as DDIMScheduler spaces them for a scheduler's config.

    `to` below 0 means x_0. Raises ValueError when so many steps do not fit.
    """
    total = int(config.get("num_train_timesteps", 1000))
    spacing = config.get("timestep_spacing", "leading")
    if spacing == "linspace":
        grid = np.linspace(0, total - 1, steps).round()[::-1].astype(int)
    elif spacing == "leading":
        offset = int(config.get("steps_offset", 0))
        grid = (np.arange(steps) * (total // steps))[::-1] + offset
    elif spacing == "trailing":
        grid = np.round(np.arange(total, 0, -total / steps)).astype(int) - 1
    else:
        raise ValueError(f"The timestep spacing '{spacing}' is unknown; use 'leading'.")
    if steps > total or int(grid[0]) >= total:
        raise ValueError(f"{steps} sampling steps do not fit into {total} timesteps; use fewer.")
    return [(int(t), int(t) - total // steps) for t in grid]


def denoise(
    pipeline: Pipeline,
    x: Tensor,
    conditioning: Conditioning,
    unguided: Conditioning | None,
    guidance: float,
    steps: Sequence[tuple[int, int]],
    report: Callable[[int], None],
    *,
    adapter_on: AdapterOn = "prompt",
) -> Tensor:
    """x_0 from noise x (n, c, h, w), with the adapters that are active.

    `unguided` is one row that guidance moves away from (None: no guidance); both predictions run
    in one batch. `adapter_on` is as in GenerationConfig. `steps` is from `ddim_timesteps`;
    `report` is told how many are done.

    A sampling step goes by epsilon(x, nothing) + g (epsilon(x, prompt) - epsilon(x, nothing)). An
    adapter that changes the prompt's prediction by d_c and the other by d_u moves that by
    g d_c - (g - 1) d_u: most of the two is the same and counts once, and what differs by chance
    counts as often as the guidance says. With the adapter on the prompt alone it is g d_c.
    """
    n = len(x)
    apart: AbstractContextManager[None] = nullcontext()
    if unguided is not None:
        conditioning = Conditioning.cat([unguided.take([0] * n), conditioning])
        apart = on_second_half(pipeline.unet) if adapter_on == "prompt" else apart
    final = torch.tensor(pipeline.schedule.final_alpha_bar, dtype=torch.float64)
    with apart:
        for done, (now, then) in enumerate(steps, start=1):
            inputs = x if unguided is None else torch.cat([x, x])
            timesteps = torch.full((len(inputs),), now)
            noise = predict_noise(pipeline, inputs, timesteps, conditioning)
            if unguided is not None:
                without, with_prompt = noise.chunk(2)
                noise = without + guidance * (with_prompt - without)
            alpha_bar_then = pipeline.schedule.at(then) if then >= 0 else final
            x = ddim_step(x, noise, pipeline.schedule.at(now), alpha_bar_then)
            report(done)
    return x


def _encode_once(
    pipeline: Pipeline, prompts: Sequence[str], size: tuple[int, int]
) -> tuple[Conditioning, list[int]]:
    """Conditioning of the different prompts, and each prompt's row in it."""
    different = list(dict.fromkeys(prompts))
    row = {prompt: index for index, prompt in enumerate(different)}
    return encode_prompts(pipeline, different, size), [row[prompt] for prompt in prompts]


def _unguided(
    pipeline: Pipeline, generation: GenerationConfig, size: tuple[int, int]
) -> Conditioning | None:
    """What guidance moves away from, for one image; None where there is no guidance."""
    if generation.guidance <= 1.0:
        return None
    if generation.negative_prompt:
        return encode_prompts(pipeline, [generation.negative_prompt], size)
    return empty_conditioning(pipeline, 1, size)
