"""Fitting a model to its device's memory, and what to do when that runs out."""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Callable
from typing import TypeVar, cast

import psutil
import torch

from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion.checkpoints import local_folder
from inpo_studio.diffusion.devices import choose_device, choose_dtype
from inpo_studio.diffusion.families import ModelConfigs, read_configs
from inpo_studio.diffusion.loading import Pipeline
from inpo_studio.diffusion.memory import Dtype, ModelNeeds, Plan, plan

log = logging.getLogger("inpo_studio.diffusion")
Result = TypeVar("Result")


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


def attempt(work: Callable[[], Result], device: torch.device) -> Result | None:
    """What `work` gives; None, with the memory given back, where it was too much at once."""
    try:
        return work()
    except (RuntimeError, MemoryError) as problem:
        if not is_out_of_memory(problem):
            raise
    release_memory(device)
    return None


class AtOnce:
    """How many pictures go through the networks together: all, and fewer once memory ran out."""

    def __init__(self, most: int | None = None) -> None:
        """Start with at most `most` pictures; None is as many as are asked for."""
        self.most = most
        self.tell: Callable[[str], None] = log.warning
        """Told, in one sentence, when memory ran out."""

    def over(
        self, total: int, work: Callable[[slice], Result], device: torch.device
    ) -> list[Result]:
        """What `work` gives on slices that cover `total` rows in order.

        A slice that does not fit is done again as halves. Raises OutOfMemory where one row alone
        does not fit.
        """
        results: list[Result] = []
        done = 0
        while done < total:
            rows = slice(done, min(total, done + (self.most or total)))
            result = attempt(lambda rows=rows: work(rows), device)  # type: ignore[misc]
            if result is None:
                self._halve(rows.stop - rows.start)
                continue
            results.append(result)
            done = rows.stop
        return results

    def _halve(self, count: int) -> None:
        if count == 1:
            raise OutOfMemory(
                "Not even one picture fits into the device's memory; close other programs, draw "
                "smaller pictures, or use a smaller model."
            )
        self.most = count // 2
        self.tell(f"Memory ran out at {count} pictures at once; going on with {self.most}.")


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device; on the CPU and on MPS, of the machine."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def memory_for(pipeline: Pipeline) -> int:
    """Bytes the model may use in all: what is free, and what this process holds already."""
    device = pipeline.device
    if device.type == "cuda":
        return free_memory(device) + torch.cuda.memory_reserved(device)
    held = sum(p.numel() * p.element_size() for p in pipeline.unet.parameters())
    return free_memory(device) + held


def refuse_early(model: str, device: str, config: RoundConfig, size: tuple[int, int]) -> None:
    """Raise OutOfMemory, in one sentence, where a round cannot fit, before anything is loaded.

    Says nothing of a model whose configuration is not on this machine yet.
    """
    folder = local_folder(model)
    if folder is None:
        return
    place = choose_device(device)
    dtype = choose_dtype(config.dtype, place)
    found = _plan(read_configs(folder), config, size, dtype, free_memory(place))
    if not found.trains:
        raise OutOfMemory(found.sentence)


def fit_training(
    pipeline: Pipeline, config: RoundConfig, size: tuple[int, int], processes: int = 1
) -> Plan:
    """Plan a round on pictures of `size` (width, height) and set the UNet to it.

    Turns gradient checkpointing on where the plan asks for it; the micro-batch is the caller's to
    take from the plan. It is the configured one wherever that fits. `processes` share a step's
    pairs and, on the CPU, the machine's memory. Raises OutOfMemory, in one sentence, where not
    even the most frugal way fits.
    """
    free = memory_for(pipeline)
    if pipeline.device.type == "cpu":
        free //= processes
    found = _plan(pipeline.configs, config, size, pipeline.dtype, free, processes)
    if not found.trains:
        raise OutOfMemory(found.sentence)
    if found.gradient_checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
    return found


def _plan(
    configs: ModelConfigs,
    config: RoundConfig,
    size: tuple[int, int],
    dtype: torch.dtype,
    free: int,
    processes: int = 1,
) -> Plan:
    return plan(
        ModelNeeds.of(configs, size=size),
        free,
        dtype=cast(Dtype, str(dtype).removeprefix("torch.")),
        rank=config.rank,
        batch_pairs=config.batch_pairs,
        most_pairs=min(config.micro_batch_pairs, math.ceil(config.batch_pairs / processes)),
    )
