"""Adapters: made from a seed, copied, saved to and loaded from a folder.

A folder is loaded by PEFT and by plain diffusers alike, and holds safetensors only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from inpo_studio.diffusion.switching import (
    activate,
    active,
    adapter_config,
    adapter_names,
    adapter_parameters,
    inject,
    remove_adapter,
    using,
)

__all__ = [
    "activate",
    "active",
    "adapter_names",
    "adapter_parameters",
    "attach_adapter",
    "copy_adapter",
    "load_adapter",
    "remove_adapter",
    "save_adapter",
    "using",
]

TARGET_MODULES: Mapping[str, tuple[str, ...]] = {
    "attention": ("to_k", "to_out.0", "to_q", "to_v"),
    "attention_and_convolutions": ("conv1", "conv2", "to_k", "to_out.0", "to_q", "to_v"),
}
"""What an adapter of ours adapts, by the ends of diffusers' names: the projections of every
attention, and the two convolutions of every ResNet block. Attention has no notion of left and
right or up and down; convolutions learn it from the picture's borders."""

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
_PEFT_PREFIX = "base_model.model."
_METADATA_KEY = "inpo_studio"


def attach_adapter(
    unet: nn.Module,
    name: str,
    rank: int,
    alpha: float,
    seed: int,
    target_modules: Sequence[str] = TARGET_MODULES["attention"],
) -> None:
    """Attach a new, trainable adapter that changes nothing yet (its B is zero).

    A is drawn uniformly in +-1/sqrt(input channels) from `seed`; the weights are float32 on the
    UNet's device. Which adapters are active, and every other adapter's requires_grad, stay as
    they were.
    """
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=list(target_modules),
        lora_dropout=0.0,
        bias="none",
    )
    inject(unet, name, config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in adapter_parameters(unet, name):
            if "lora_A" in key:
                bound = parameter.shape[1] ** -0.5
                drawn = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
                parameter.copy_(drawn)
            else:
                parameter.zero_()


def copy_adapter(unet: nn.Module, source: str, target: str) -> None:
    """Copy the weights of one adapter onto another of the same rank, alpha and modules."""
    theirs, ours = adapter_parameters(unet, source), adapter_parameters(unet, target)
    same = [(key, value.shape) for key, value in theirs] == [(k, v.shape) for k, v in ours]
    if not same or _alpha(unet, source) != _alpha(unet, target):
        raise ValueError(
            f"'{source}' and '{target}' differ in rank, alpha or modules; attach '{target}' with "
            "those of the other."
        )
    with torch.no_grad():
        for (_, value), (_, parameter) in zip(theirs, ours, strict=True):
            parameter.copy_(value)


def save_adapter(
    unet: nn.Module, name: str, folder: Path, metadata: Mapping[str, str] | None = None
) -> str:
    """Write the adapter into `folder` and return the SHA-256 of its weights file.

    PEFT's layout (adapter_model.safetensors, adapter_config.json), and beside it
    pytorch_lora_weights.safetensors with the same weights for `pipe.load_lora_weights(folder)`,
    which carries rank and alpha: without them diffusers takes alpha to be the rank. The same
    weights and metadata give the same bytes.
    """
    config = adapter_config(unet, name)
    tensors = {
        key: parameter.detach().float().cpu().contiguous()
        for key, parameter in adapter_parameters(unet, name)
    }
    facts = {
        "peft_type": "LORA",
        "task_type": None,
        "r": int(config.r),
        "lora_alpha": config.lora_alpha,
        "target_modules": sorted(config.target_modules or ()),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
    folder.mkdir(parents=True, exist_ok=True)
    # One metadata entry a file: safetensors writes several in no fixed order.
    ours = {_METADATA_KEY: json.dumps(dict(metadata or {}), sort_keys=True)}
    weights = save({_PEFT_PREFIX + key: value for key, value in tensors.items()}, ours)
    (folder / WEIGHTS_FILE).write_bytes(weights)
    (folder / CONFIG_FILE).write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n", "utf-8")
    lora = {f"unet.{k}": facts[k] for k in ("r", "lora_alpha", "target_modules", "lora_dropout")}
    theirs = {"lora_adapter_metadata": json.dumps(lora, sort_keys=True)}
    (folder / DIFFUSERS_FILE).write_bytes(
        save({f"unet.{key}": value for key, value in tensors.items()}, theirs)
    )
    return hashlib.sha256(weights).hexdigest()


def load_adapter(unet: nn.Module, name: str, folder: Path, trainable: bool = False) -> None:
    """Attach the adapter that `save_adapter` wrote into `folder`, in float32, not yet active.

    Raises ValueError, in one sentence, when files are missing, damaged, or of another model.
    """
    config = _read_config(folder)
    tensors = _read_weights(folder)
    inject(unet, name, config)
    parameters = dict(adapter_parameters(unet, name))
    if {k: tuple(v.shape) for k, v in tensors.items()} != {
        k: tuple(v.shape) for k, v in parameters.items()
    }:
        remove_adapter(unet, name)
        raise ValueError(f"The adapter in {folder} was made for another model; load that one.")
    with torch.no_grad():
        for key, parameter in parameters.items():
            parameter.copy_(tensors[key])
            parameter.requires_grad_(trainable)


def _read_config(folder: Path) -> LoraConfig:
    try:
        facts: dict[str, Any] = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
        return LoraConfig(
            r=int(facts["r"]),
            lora_alpha=facts["lora_alpha"],
            target_modules=list(facts["target_modules"]),
            lora_dropout=0.0,
            bias="none",
        )
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise ValueError(
            f"{folder / CONFIG_FILE} is missing or damaged; give the folder of a LoRA adapter."
        ) from problem


def _read_weights(folder: Path) -> dict[str, Tensor]:
    try:
        tensors = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as problem:
        raise ValueError(
            f"{folder / WEIGHTS_FILE} is missing or damaged; give the folder of a LoRA adapter."
        ) from problem
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise ValueError(f"The adapter in {folder} holds values that are not numbers.")
    return {key.removeprefix(_PEFT_PREFIX): value for key, value in tensors.items()}


def _alpha(unet: nn.Module, name: str) -> float:
    return float(adapter_config(unet, name).lora_alpha)
