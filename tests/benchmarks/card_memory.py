"""Peak memory and steps a second of a round's training step, at the size of a real UNet.

    python -m tests.benchmarks.card_memory --model sdxl --preset "12 GB" --published
    python -m tests.benchmarks.card_memory --model tiny --device cpu --published

Weights are random, so nothing is downloaded; sizes are those of the published models. The UNet is
fitted to the preset as a round would be, then a few optimiser steps run: the policy's forward and
backward pass on winner and loser, one reference forward where noise is mixed, AdamW. On CUDA the
preset is enforced (the allocator gets no more), and the estimate stands beside what was measured.
``--published`` then trains the same UNet by the published algorithm, a pair at a time and without
a limit on memory: policy inversion, a second UNet, all weights.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion.adapters import (
    TARGET_MODULES,
    activate,
    adapter_parameters,
    attach_adapter,
    remove_adapter,
    using,
)
from inpo_studio.diffusion.compiling import CompiledUNet
from inpo_studio.diffusion.conditioning import Conditioning, predict_noise
from inpo_studio.diffusion.families import SD, SDXL, ModelConfigs, default_size
from inpo_studio.diffusion.loading import Pipeline
from inpo_studio.diffusion.memory import CONTEXT, GIB, PRESETS, ModelNeeds, Plan, plan
from inpo_studio.inpo.schedule import schedule_from_config
from tests.benchmarks.published_step import Published, held_bytes
from tests.diffusion.real_configs import UNETS, VAE

RANK, BATCH_PAIRS = 8, 8
_SMALL = {**UNETS["sd15"], "block_out_channels": [32, 64, 64, 64], "sample_size": 16}
_SCHEDULER = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def build(name: str, device: torch.device, dtype: torch.dtype) -> Pipeline:
    """A pipeline whose UNet has random weights, and nothing else."""
    from diffusers import UNet2DConditionModel

    config: dict[str, Any] = _SMALL if name == "tiny" else UNETS[name]
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            unet = UNet2DConditionModel(**config)
    finally:
        torch.set_default_dtype(before)
    unet.requires_grad_(False).eval()
    configs = ModelConfigs({}, {"in_channels": 4, **config}, VAE, _SCHEDULER)
    return Pipeline(
        model=name,
        family=SDXL if name == "sdxl" else SD,
        configs=configs,
        unet=unet,
        vae=None,
        tokenizers=(),
        text_encoders=(),
        schedule=schedule_from_config(_SCHEDULER),
        device=device,
        dtype=dtype,
        fingerprint="",
        size=default_size(configs),
    )


def conditioning(pipeline: Pipeline, pictures: int) -> Conditioning:
    """Random conditioning of the right shape."""
    config = pipeline.configs.unet
    text = torch.randn(pictures, 77, config["cross_attention_dim"], device=pipeline.device)
    if not pipeline.family.size_conditioned:
        return Conditioning(text)
    pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
    added = {
        "text_embeds": torch.randn(pictures, pooled, device=pipeline.device),
        "time_ids": torch.zeros(pictures, 6, device=pipeline.device),
    }
    return Conditioning(text, added)


def train(pipeline: Pipeline, found: Plan, steps: int, compiled: bool) -> dict[str, float]:
    """Seconds an optimiser step of BATCH_PAIRS pairs, and the first one's, which compiles."""
    adapted = TARGET_MODULES[RoundConfig().adapted_layers]
    attach_adapter(pipeline.unet, "policy", RANK, float(RANK), 0, adapted)
    activate(pipeline.unet, ["policy"])
    parameters = [p for _, p in adapter_parameters(pipeline.unet, "policy")]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, foreach=False)
    pictures = 2 * found.micro_batch_pairs
    side = pipeline.configs.unet["sample_size"]
    inputs = conditioning(pipeline, pictures)
    unet = CompiledUNet(pipeline.unet, print) if compiled else None
    started, first = time.perf_counter(), 0.0
    for step in range(steps + 1):
        if step == 1:
            _wait(pipeline.device)
            first = time.perf_counter() - started
            started += first
        optimizer.zero_grad(set_to_none=True)
        for _ in range(BATCH_PAIRS // found.micro_batch_pairs):
            x_t = torch.randn(pictures, 4, side, side, device=pipeline.device)
            timesteps = torch.full((pictures,), 500)
            with torch.no_grad(), using(pipeline.unet, []):
                reference = predict_noise(pipeline, x_t, timesteps, inputs)
            predicted = predict_noise(pipeline, x_t, timesteps, inputs, unet=unet)
            error = (predicted - reference - 1).square()
            winner, loser = error.mean((1, 2, 3)).chunk(2)
            torch.nn.functional.softplus(winner - loser).mean().backward()
        optimizer.step()
    _wait(pipeline.device)
    seconds = (time.perf_counter() - started) / max(1, steps)
    return {
        "seconds_a_step": round(seconds, 3),
        "pairs_a_second": round(BATCH_PAIRS / seconds, 2),
        "first_step_s": round(first, 1),
    }


def train_published(pipeline: Pipeline, steps: int) -> dict[str, Any]:
    """What a step of one pair takes by the published algorithm, at timesteps spread evenly."""
    remove_adapter(pipeline.unet, "policy")
    algorithm = Published.build(pipeline)
    side, device = pipeline.configs.unet["sample_size"], pipeline.device
    x_0, told = torch.randn(2, 4, side, side, device=device), conditioning(pipeline, 2)
    algorithm.step(x_0, told, 50)
    _wait(device)
    started = time.perf_counter()
    for step in range(steps):
        algorithm.step(x_0, told, (2 * step + 1) * 1000 // (2 * steps))
    _wait(device)
    seconds = (time.perf_counter() - started) / steps
    held = held_bytes([pipeline.unet, algorithm.policy], algorithm.optimizer)
    return {
        "pairs_a_second": round(1 / seconds, 3),
        **{f"{name}_gib": round(size / GIB, 3) for name, size in held.items()},
        **peak(device),
    }


def peak(device: torch.device) -> dict[str, float]:
    """The most that was taken on a card since the last reset; nothing on a CPU."""
    if device.type != "cuda":
        return {}
    return {
        "allocated_gib": round(torch.cuda.max_memory_allocated(device) / GIB, 2),
        "reserved_gib": round(torch.cuda.max_memory_reserved(device) / GIB, 2),
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Measure one model at one preset and print a JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=["tiny", *UNETS], default="sdxl")
    parser.add_argument("--preset", choices=list(PRESETS), default="12 GB")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--published", action="store_true", help="the published step as well")
    parser.add_argument("--compiled", action="store_true", help="train through torch.compile")
    parser.add_argument("--out", type=Path, help="also write the object here")
    given = parser.parse_args()
    device = torch.device(given.device)
    on_gpu = device.type == "cuda"
    if on_gpu and device.index is None:
        # The allocator's limit is set for one card by number.
        device = torch.device("cuda", torch.cuda.current_device())
    budget = PRESETS[given.preset]
    if on_gpu:
        # A card of that size: the context is outside of what the allocator counts.
        whole = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, (budget - CONTEXT) / whole), device)
    pipeline = build(given.model, device, torch.bfloat16 if on_gpu else torch.float32)
    found = plan(
        ModelNeeds.of(pipeline.configs),
        budget,
        dtype="bfloat16" if on_gpu else "float32",
        rank=RANK,
        batch_pairs=BATCH_PAIRS,
    )
    if found.gradient_checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
    measured = train(pipeline, found, given.steps, given.compiled)
    result: dict[str, Any] = {
        "model": given.model,
        "preset": given.preset,
        "plan": found.sentence,
        "compiled": given.compiled,
        **measured,
        "estimated_gib": round(found.training.total / GIB, 2),
    }
    if on_gpu:
        result |= {"device": torch.cuda.get_device_name(device), **peak(device)}
        torch.cuda.set_per_process_memory_fraction(1.0, device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    if given.published:
        result["published"] = train_published(pipeline, given.steps)
    text = json.dumps(result, indent=2)
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
