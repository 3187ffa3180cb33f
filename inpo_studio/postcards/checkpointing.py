"""Durable steps: checkpoints that are whole or absent, and randomness that needs no memory."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .muon import Muon


def write_text(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all, even after a power cut."""
    part = path.with_name(path.name + ".part")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def publish(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a fresh folder, then put that folder at `path` by renaming it."""
    part = path.with_name(path.name + ".part")
    old = path.with_name(path.name + ".old")
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir(parents=True)
    fill(part)
    if path.exists():
        path.rename(old)
    part.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def declare_float32(folder: Path) -> None:
    """Make transformers load float16 weights as float32 unless told otherwise, as diffusers does.

    Without it a plain `StableDiffusionPipeline.from_pretrained` gives a text encoder in float16
    beside a UNet in float32.
    """
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for part in (config, config.get("text_config", {}), config.get("vision_config", {})):
        if "dtype" in part:
            part["dtype"] = "float32"
    write_text(path, json.dumps(config, indent=2) + "\n")


def rng_for(seed: int, purpose: str, step: int) -> np.random.Generator:
    """Give the random numbers of one step: a function of its arguments and nothing else."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), step])


def torch_rng_for(seed: int, purpose: str, step: int) -> torch.Generator:
    """Give the torch random numbers (on CPU) of one step, as `rng_for` does for numpy."""
    state = int(rng_for(seed, purpose, step).integers(2**62))
    return torch.Generator().manual_seed(state)


def batch_indices(seed: int, purpose: str, step: int, batch: int, count: int) -> np.ndarray:
    """Pick the items of one step: every item once an epoch, in an order of its own each time.

    Returns int64 of shape (batch,). It can be asked for any step without those before it.
    """
    positions = np.arange(step * batch, (step + 1) * batch)
    picked = np.empty(batch, dtype=np.int64)
    for epoch in np.unique(positions // count):
        here = positions // count == epoch
        order = rng_for(seed, purpose + ".order", int(epoch)).permutation(count)
        picked[here] = order[positions[here] % count]
    return picked


class TrainState:
    """Networks, their moving averages and their optimisers, saved and loaded together.

    The averages (one tensor a parameter) are what a finished stage ships. AdamW updates all
    parameters at `lr`; with `muon_lr` given, Muon takes over those of two or more dimensions.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        lr: float,
        decay: float,
        muon_lr: float | None = None,
    ) -> None:
        self.networks = dict(networks)
        self.decay = decay
        self.parameters = [p for net in self.networks.values() for p in net.parameters()]
        self.averages: list[Tensor] = [p.detach().clone() for p in self.parameters]
        matrices = [p for p in self.parameters if muon_lr is not None and p.ndim > 1]
        others = [p for p in self.parameters if muon_lr is None or p.ndim <= 1]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=lr, weight_decay=0.01, fused=True)
        ]
        if muon_lr is not None:
            self.optimizers.append(Muon(matrices, muon_lr))
        self.rates = [optimizer.param_groups[0]["lr"] for optimizer in self.optimizers]

    def update(self, step: int, steps: int, warm_up: int) -> None:
        """Take one optimiser step at `step` of `steps`: warm-up, then cosine decay to zero."""
        factor = min(1.0, (step + 1) / warm_up) * 0.5 * (1 + float(np.cos(np.pi * step / steps)))
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        # The average starts short-sighted, else the random start would linger in it.
        decay = min(self.decay, (step + 1) / (step + 10))
        with torch.no_grad():
            current: list[Tensor] = list(self.parameters)
            torch._foreach_lerp_(self.averages, current, 1 - decay)

    def use_averages(self) -> None:
        """Swap the moving averages with the networks' parameters (call again to undo)."""
        with torch.no_grad():
            for parameter, average in zip(self.parameters, self.averages, strict=True):
                kept = parameter.detach().clone()
                parameter.copy_(average)
                average.copy_(kept)

    def _optimizer_state(self, parameter: nn.Parameter) -> dict[str, Any]:
        for optimizer in self.optimizers:
            if parameter in optimizer.state:
                return dict(optimizer.state[parameter])
        return {}

    def _tensors(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for index, parameter in enumerate(self.parameters):
            tensors[f"parameter.{index}"] = parameter.detach()
            tensors[f"average.{index}"] = self.averages[index]
            for name, value in self._optimizer_state(parameter).items():
                tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
        return {key: value.cpu().contiguous() for key, value in tensors.items()}

    def save(self, folder: Path, step: int) -> None:
        """Publish a checkpoint after `step` finished steps at `folder`, replacing the last."""

        def fill(part: Path) -> None:
            save_file(self._tensors(), part / "state.safetensors")
            write_text(part / "state.json", json.dumps({"step": step}))

        publish(folder, fill)

    def load(self, folder: Path) -> int:
        """Load the checkpoint at `folder`; returns its finished steps, 0 where there is none."""
        if not folder.exists():
            old = folder.with_name(folder.name + ".old")
            if not old.exists():
                return 0
            old.rename(folder)  # killed between the two renames of a publication
        tensors = load_file(folder / "state.safetensors")
        with torch.no_grad():
            for index, parameter in enumerate(self.parameters):
                parameter.copy_(tensors[f"parameter.{index}"])
                self.averages[index].copy_(tensors[f"average.{index}"])
                prefix = f"optimizer.{index}."
                state: dict[str, Any] = {
                    key.removeprefix(prefix): value.to(parameter.device, copy=True)
                    for key, value in tensors.items()
                    if key.startswith(prefix)
                }
                for optimizer in self.optimizers:
                    held = any(parameter is p for p in optimizer.param_groups[0]["params"])
                    if held and state:
                        optimizer.state[parameter] = state
        return int(json.loads((folder / "state.json").read_text())["step"])
