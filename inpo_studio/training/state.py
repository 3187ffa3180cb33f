"""A trainer's state as a checkpoint, and back."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inpo_studio.training.checkpoint import Checkpoint, latest_checkpoint, save_checkpoint
from inpo_studio.training.loop import Trainer


def save_state(trainer: Trainer, folder: Path, facts: Mapping[str, Any]) -> Path:
    """Write weights, running average, optimizer and step; ``facts`` are checked on the way back."""
    tensors: dict[str, Tensor] = {}
    for name, parameter, average in zip(
        trainer.names, trainer.parameters, trainer.average, strict=True
    ):
        tensors[f"policy.{name}"] = parameter.detach().cpu()
        tensors[f"average.{name}"] = average.cpu()
        for key, value in trainer.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = torch.as_tensor(value).cpu()
    tensors.update(trainer.early_stop.state())
    stored = {**facts, "environment": environment(trainer)}
    return save_checkpoint(folder, Checkpoint(trainer.step, tensors, stored))


def restore(trainer: Trainer, folder: Path, facts: Mapping[str, Any]) -> bool:
    """Go on from the newest whole checkpoint under ``folder``; False where there is none.

    Warns when the checkpoint was written with other threads, processes, memory, versions, device
    or arithmetic: the round goes on, but not to the same bytes. Raises ``ValueError`` when
    ``facts`` differ.
    """
    checkpoint = latest_checkpoint(folder, facts)
    if checkpoint is None:
        return False
    if checkpoint.facts.get("environment") != environment(trainer):
        warnings.warn(
            "This round goes on with other threads, processes, memory, library versions, device or "
            "arithmetic than it started with: it will not end in the same bytes.",
            stacklevel=2,
        )
    tensors = checkpoint.tensors
    for name, parameter, average in zip(
        trainer.names, trainer.parameters, trainer.average, strict=True
    ):
        with torch.no_grad():
            parameter.copy_(tensors[f"policy.{name}"])
            average.copy_(tensors[f"average.{name}"])
        _restore_optimizer(trainer.optimizer, parameter, tensors, name)
    trainer.step = checkpoint.step
    trainer.early_stop.restore(tensors)
    return True


def _restore_optimizer(
    optimizer: torch.optim.Optimizer,
    parameter: torch.nn.Parameter,
    tensors: Mapping[str, Tensor],
    name: str,
) -> None:
    """AdamW's moments live beside the weights; its step count stays on the CPU."""
    keys = ("step", "exp_avg", "exp_avg_sq")
    found = {key: tensors.get(f"optimizer.{key}.{name}") for key in keys}
    if any(value is None for value in found.values()):
        return
    optimizer.state[parameter] = {
        key: value if key == "step" else value.to(parameter.device)
        for key, value in found.items()
        if value is not None
    }


def environment(trainer: Trainer) -> dict[str, Any]:
    """What equal bytes depend on beside seeds and weights."""
    found: dict[str, Any] = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "diffusers": version("diffusers"),
        "peft": version("peft"),
        "device": trainer.policy.pipeline.device.type,
        "dtype": str(trainer.policy.pipeline.dtype).removeprefix("torch."),
    }
    if trainer.together.size > 1:
        found["processes"] = trainer.together.size
    if trainer.batches.pairs_at_once < trainer.config.micro_batch_pairs:
        found["pairs_at_once"] = trainer.batches.pairs_at_once
    return found
