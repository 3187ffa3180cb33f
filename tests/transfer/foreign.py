"""LoRA files as other programs write them, for the small models: any rank and alpha a layer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from inpo_studio.diffusion.families import read_configs, recognise
from inpo_studio.transfer.adapters import kohya_name
from inpo_studio.transfer.lora_layers import trainable_shapes
from inpo_studio.transfer.original import UnetLayout


@dataclass(frozen=True)
class Made:
    """A layer as it is written."""

    down: np.ndarray
    up: np.ndarray
    alpha: float

    def delta(self, scale: float) -> np.ndarray:
        """What it adds to a weight, (outputs, inputs and places of a kernel)."""
        up, down = (part.reshape(len(part), -1) for part in (self.up, self.down))
        return np.asarray(scale * (up @ down), dtype=np.float32)

    @property
    def rank(self) -> int:
        return int(self.down.shape[0])


def layers(
    model: Path,
    ranks: tuple[int, ...] = (1, 3, 6),
    alphas: tuple[float, ...] = (1.0, 2.0, 8.0),
    only: Callable[[str], bool] = lambda module: ".to_" in module,
) -> dict[str, Made]:
    """Random layers, ranks and alphas in turn, each as strong as the weights it is added to.

    Of the attention, unless `only` says otherwise.
    """
    rng = np.random.default_rng(5)
    made = {}
    shapes = trainable_shapes(model, read_configs(model))
    for index, module in enumerate(sorted(filter(only, shapes))):
        outputs, inputs, *kernel = shapes[module]
        rank, alpha = ranks[index % len(ranks)], alphas[index % len(alphas)]
        deviation = (0.08 * rank / alpha / rank**0.5) ** 0.5
        made[module] = Made(
            rng.normal(0, deviation, (rank, inputs, *kernel)).astype(np.float32),
            rng.normal(0, deviation, (outputs, rank, *[1] * len(kernel))).astype(np.float32),
            alpha,
        )
    return made


def write_kohya(
    path: Path, model: Path, made: Mapping[str, Made], *, diffusers_names: bool = False
) -> Path:
    configs = read_configs(model)
    family, layout = recognise(configs), UnetLayout.of(configs.unet)
    tensors = {}
    for module, layer in made.items():
        name = kohya_name(module, family, layout)
        if diffusers_names:
            name = f"lora_unet_{module.replace('.', '_')}"
        tensors[f"{name}.lora_down.weight"] = layer.down
        tensors[f"{name}.lora_up.weight"] = layer.up
        tensors[f"{name}.alpha"] = np.asarray(layer.alpha, dtype=np.float32)
    save_file(tensors, path)
    return path


def write_diffusers(path: Path, made: Mapping[str, Made], *, metadata: bool = True) -> Path:
    """With metadata as `save_lora_weights` writes it; without, readers take alpha as the rank."""
    tensors = {}
    for module, layer in made.items():
        tensors[f"unet.{module}.lora_A.weight"] = layer.down
        tensors[f"unet.{module}.lora_B.weight"] = layer.up
    facts = {f"unet.{name}": value for name, value in peft_facts(made).items()}
    said = {"lora_adapter_metadata": json.dumps(facts)} if metadata else {}
    save_file(tensors, path, {"format": "pt", **said})
    return path


def write_peft(folder: Path, made: Mapping[str, Made], **changes: Any) -> Path:
    tensors = {}
    for module, layer in made.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = layer.down
        tensors[f"base_model.model.{module}.lora_B.weight"] = layer.up
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    facts = {"peft_type": "LORA", "bias": "none", **peft_facts(made), **changes}
    (folder / "adapter_config.json").write_text(json.dumps(facts))
    return folder


def peft_facts(made: Mapping[str, Made]) -> dict[str, Any]:
    """PEFT's configuration of layers that differ."""
    first = next(iter(made.values()))
    return {
        "r": first.rank,
        "lora_alpha": first.alpha,
        "rank_pattern": {name: one.rank for name, one in made.items() if one.rank != first.rank},
        "alpha_pattern": {
            name: one.alpha for name, one in made.items() if one.alpha != first.alpha
        },
        "target_modules": sorted(made),
        "lora_dropout": 0.0,
    }
