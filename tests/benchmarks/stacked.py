"""Rounds that differ only in their labels, trained at once: their adapters stacked under vmap.

On a GPU a step of the embedded model is spent launching kernels, so that sixteen tastes at once
take little longer than one. A round comes out as the trainer's own would in float32, but for
rounding; vmap knows no autocast, so the pipeline has to be loaded in float32.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion.adapters import using
from inpo_studio.diffusion.conditioning import (
    Conditioning,
    empty_conditioning,
    encode_prompts,
    predict_noise,
)
from inpo_studio.diffusion.latents import decode_latents, initial_noise
from inpo_studio.diffusion.loading import Pipeline
from inpo_studio.diffusion.sampling import ddim_timesteps
from inpo_studio.inpo.schedule import ddim_step
from inpo_studio.training.dataset import TrainingData
from inpo_studio.training.errors import MicroBatch, pair_errors
from inpo_studio.training.policy import POLICY, Policy
from inpo_studio.training.prepare import build_batches, condition
from inpo_studio.training.rate import learning_rate
from tests.benchmarks.pool import GENERATION, Picture

# Pictures of each policy that are drawn together.
AT_ONCE = 24


class StackedPolicy:
    """G policies on one UNet: each adapter weight is (G, ...), and a batch has G equal parts.

    Rows of a batch are ordered by look, then by policy, then by pair: (looks * G * n, ...).
    """

    def __init__(self, policy: Policy, count: int) -> None:
        self.pipeline = policy.pipeline
        self.count = count
        own = policy.parameters()
        self.names = [name.removesuffix("weight") + f"{POLICY}.weight" for name, _ in own]
        self.weights = [
            parameter.detach().repeat(count, *[1] * parameter.ndim).requires_grad_(True)
            for _, parameter in own
        ]

    def predict(
        self,
        x_t: Tensor,
        timesteps: Tensor,
        conditioning: Conditioning,
        seeds: Tensor | None = None,
        *,
        looks: int = 1,
    ) -> Tensor:
        """The policies' noise predictions, each on its part; ``seeds`` are not used."""

        def unet(x: Tensor, t: Tensor, states: Tensor, **_: Any) -> tuple[Tensor]:
            found = self._call(*(self._parts(rows, looks) for rows in (x, t, states)))
            ordered = found.unflatten(1, (looks, -1)).transpose(0, 1)
            return (ordered.flatten(0, 2),)

        with using(self.pipeline.unet, [POLICY]):
            return predict_noise(self.pipeline, x_t, timesteps, conditioning, unet=unet)

    @torch.no_grad()
    def hold(self, displacement: Tensor, most: float) -> None:
        """Each policy's `Leash`, by the displacements of its own pairs."""
        away = displacement.reshape(self.count, -1).mean(1).sqrt()
        share = (most / away).clamp_max(1.0) if most else torch.ones_like(away)
        for name, weight in zip(self.names, self.weights, strict=True):
            if "lora_B" in name:
                weight.mul_(share.to(weight).reshape(-1, *[1] * (weight.ndim - 1)))

    def _parts(self, rows: Tensor, looks: int) -> Tensor:
        """(looks * G * n, ...) -> (G, looks * n, ...)."""
        return rows.unflatten(0, (looks, self.count, -1)).transpose(0, 1).flatten(1, 2)

    def _call(self, x: Tensor, t: Tensor, states: Tensor) -> Tensor:
        def one(weights: tuple[Tensor, ...], *inputs: Tensor) -> Tensor:
            named = dict(zip(self.names, weights, strict=True))
            told = {"return_dict": False}
            found: Tensor = functional_call(self.pipeline.unet, named, inputs, told)[0]
            return found

        # The other kernels of attention have no rule for vmap.
        with sdpa_kernel(SDPBackend.MATH):
            return vmap(one)(tuple(self.weights), x, t, states)


class _Looking(Policy):
    """The policies as `pair_errors` asks them, for batches of so many looks a pair."""

    def __init__(self, stacked: StackedPolicy, looks: int) -> None:
        super().__init__(stacked.pipeline, ())
        object.__setattr__(self, "predict", partial(stacked.predict, looks=looks))


def train(
    pipeline: Pipeline, rounds: Sequence[TrainingData], config: RoundConfig, cache: Path
) -> tuple[StackedPolicy, dict[str, float]]:
    """Train a policy on each of ``rounds``, which differ in their labels alone.

    ``pipeline.unet`` keeps an untrained adapter of the same shape. Raises ValueError for settings
    that a stacked round cannot follow.
    """
    if config.lora_dropout or config.early_stop or config.weight_averaging:
        raise ValueError("Stacked rounds know no LoRA dropout, early stop or averaging.")
    started = time.perf_counter()
    prompts = condition(pipeline, rounds[0].prompts, pipeline.size)
    policy = Policy.build(pipeline, config, None)
    batches = [
        build_batches(policy, config, data, prompts, pipeline.fingerprint, cache) for data in rounds
    ]
    stacked = StackedPolicy(policy, len(rounds))
    optimizer = torch.optim.AdamW(stacked.weights, weight_decay=config.weight_decay)
    prepared = time.perf_counter()
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        optimizer.zero_grad(set_to_none=True)
        micro = _joined([next(each.of_step(step)) for each in batches])
        errors = pair_errors(config, _Looking(stacked, micro.looks), micro)
        (batches[0].losses(errors, micro).sum() / config.batch_pairs).backward()
        _clip(stacked.weights, config.gradient_clip)
        optimizer.step()
        stacked.hold(errors.displacement, config.most_displacement)
    return stacked, {
        "prepare_s": (prepared - started) / len(rounds),
        "train_s": (time.perf_counter() - prepared) / len(rounds),
        "steps": float(config.steps),
    }


def _joined(parts: Sequence[MicroBatch]) -> MicroBatch:
    """The rounds' micro-batches as one, look by look."""

    def by_look(tensors: Sequence[Tensor]) -> Tensor:
        chunks = [tensor.chunk(parts[0].looks) for tensor in tensors]
        return torch.cat([part for look in zip(*chunks, strict=True) for part in look])

    known = [part.reference for part in parts if part.reference is not None]
    return MicroBatch(
        x_t=by_look([part.x_t for part in parts]),
        noise=(
            torch.cat([part.noise[0] for part in parts]),
            torch.cat([part.noise[1] for part in parts]),
        ),
        reference=by_look(known) if known else None,
        timestep=torch.cat([part.timestep for part in parts]),
        conditioning=Conditioning.cat([part.conditioning for part in parts]),
        preference=torch.cat([part.preference for part in parts]),
        # The same for all: whichever of a pair has won, the two differ by as much.
        weights=parts[0].weights,
    )


def _clip(weights: Sequence[Tensor], most: float) -> None:
    """Clip every policy's gradient by its own norm."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    norms = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients]).sum(0)
    scale = (most / (norms.sqrt() + 1e-6)).clamp_max(1)
    for gradient in gradients:
        gradient.mul_(scale.reshape(-1, *[1] * (gradient.ndim - 1)))


@torch.no_grad()
def draw(
    stacked: StackedPolicy, prompts: Sequence[str], seeds: Sequence[int]
) -> list[list[Picture]]:
    """Every policy's pictures of ``prompts`` at ``seeds``, as `sampling.sample` would draw them."""
    made: list[list[Picture]] = [[] for _ in range(stacked.count)]
    for start in range(0, len(prompts), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        latents = _latents(stacked, prompts[rows], seeds[rows]).float().cpu()
        for pictures, own in zip(made, latents.chunk(stacked.count), strict=True):
            images = decode_latents(stacked.pipeline, own)
            pictures += [
                Picture(*facts)
                for facts in zip(prompts[rows], seeds[rows], images, own, strict=True)
            ]
    return made


def _latents(stacked: StackedPolicy, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
    pipeline, copies = stacked.pipeline, list(range(len(prompts))) * stacked.count
    told = encode_prompts(pipeline, prompts, pipeline.size).take(copies)
    nothing = empty_conditioning(pipeline, len(copies), pipeline.size)
    x = initial_noise(pipeline, seeds, *pipeline.size).to(pipeline.device)[copies]
    final = torch.tensor(pipeline.schedule.final_alpha_bar, dtype=torch.float64)
    for now, then in ddim_timesteps(pipeline.scheduler_config, GENERATION.steps):
        timesteps = torch.full((len(x),), now)
        with using(pipeline.unet, []):
            without = predict_noise(pipeline, x, timesteps, nothing)
        with_prompt = stacked.predict(x, timesteps, told)
        noise = without + GENERATION.guidance * (with_prompt - without)
        alpha_bar = pipeline.schedule.at(then) if then >= 0 else final
        x = ddim_step(x, noise, pipeline.schedule.at(now), alpha_bar)
    return x
