"""Fitting a loaded model to its device's memory, and what to do when that runs out."""

from __future__ import annotations

import gc
from typing import cast

import psutil
import torch

from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion.loading import Pipeline
from inpo_studio.diffusion.memory import Dtype, ModelNeeds, Plan, plan


class OutOfMemory(RuntimeError):
    """Not even the smallest piece of work fits the device; the message says the way out."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device's or the machine's memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error)
    # What MPS and the CPU's allocator raise.
    return isinstance(error, RuntimeError) and (
        "out of memory" in said or "can't allocate memory" in said
    )


def release_memory(device: torch.device) -> None:
    """Give back what nothing holds any more. Call it outside of the `except` that caught the
    error, whose traceback keeps the tensors of the failed work alive."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def memory_for(pipeline: Pipeline) -> int:
    """Bytes the model may use in all: what is free, and what this process holds already."""
    device = pipeline.device
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) + torch.cuda.memory_reserved(device)
    held = sum(p.numel() * p.element_size() for p in pipeline.unet.parameters())
    return int(psutil.virtual_memory().available) + held


def fit_training(pipeline: Pipeline, config: RoundConfig, size: tuple[int, int]) -> Plan:
    """Plan a round on pictures of `size` (width, height) and set the UNet to it.

    Turns gradient checkpointing on where the plan asks for it; the micro-batch is the caller's to
    take from the plan. It is the configured one wherever that fits. Raises OutOfMemory, in one
    sentence, where not even the most frugal way fits.
    """
    dtype = cast(Dtype, str(pipeline.dtype).removeprefix("torch."))
    found = plan(
        ModelNeeds.of(pipeline.configs, size=size),
        memory_for(pipeline),
        dtype=dtype,
        rank=config.rank,
        batch_pairs=config.batch_pairs,
        most_pairs=config.micro_batch_pairs,
    )
    if not found.trains:
        raise OutOfMemory(found.sentence)
    if found.gradient_checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
    return found
