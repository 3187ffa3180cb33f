"""An adapter in the forms that other programs load, each at the strength it was trained with.

A LoRA layer adds scale * up @ down to a weight, with scale = alpha / rank. What programs read of
alpha differs, so each form carries it in its own way:

- **diffusers**: readers that overlook the metadata take alpha to be the rank. The scale is
  therefore multiplied into `up` (lora_B), and the metadata says alpha = rank.
- **peft**: weights as they were trained; `adapter_config.json` says rank and alpha.
- **kohya**: weights as they were trained and an `.alpha` tensor beside each layer; what ComfyUI,
  AUTOMATIC1111 and others read. Layers are named after the UNet that kohya's trainer uses: with
  diffusers' names for SD 1 and 2, with the original names for SDXL.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from inpo_studio.diffusion.families import Family
from inpo_studio.studio.errors import StudioError
from inpo_studio.transfer.original import UnetLayout
from inpo_studio.transfer.tensors import Floats, Tensor, TensorFile, float_tensor

Form = Literal["diffusers", "peft", "kohya"]
FORMS: tuple[Form, ...] = get_args(Form)

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
PEFT_FILE = "adapter_model.safetensors"
PEFT_CONFIG = "adapter_config.json"
_PEFT_PREFIX = "base_model.model."
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class Layer:
    """One adapted weight: down (rank, inputs) and up (outputs, rank); where the weight is that of a
    convolution, with its kernel behind the one and 1, 1 behind the other."""

    down: Floats
    up: Floats


@dataclass(frozen=True)
class AdapterWeights:
    """A LoRA by the UNet's modules, under diffusers' names."""

    layers: Mapping[str, Layer]
    alpha: float
    config: Mapping[str, Any]
    """PEFT's adapter_config.json."""

    @property
    def rank(self) -> int:
        """Rank of the layers, which all have the same."""
        return int(next(iter(self.layers.values())).down.shape[0])

    @property
    def scale(self) -> float:
        """What up @ down is multiplied by at strength 1."""
        return self.alpha / self.rank

    def delta(self, module: str) -> Floats:
        """What the adapter adds to a module's weight at strength 1: (outputs, inputs), with the
        places of a kernel among the inputs."""
        layer = self.layers[module]
        up, down = (part.reshape(part.shape[0], -1) for part in (layer.up, layer.down))
        return np.asarray(self.scale * (up @ down), dtype=np.float32)


def read_adapter(folder: Path) -> AdapterWeights:
    """Read the adapter a round has made. Raises StudioError when it is missing or damaged."""
    try:
        config: dict[str, Any] = json.loads((folder / PEFT_CONFIG).read_text("utf-8"))
        alpha = float(config["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudioError(
            f"{folder / PEFT_CONFIG} is missing or damaged; align again, or restore the folder."
        ) from error
    stored = TensorFile(folder / PEFT_FILE)
    layers: dict[str, Layer] = {}
    for name in sorted(stored):
        if name.endswith(_DOWN):
            module = name.removesuffix(_DOWN)
            up = module + _UP
            if up not in stored:
                raise StudioError(f"{stored.path} lacks {up}; restore the file.")
            layer = Layer(stored.floats(name), stored.floats(up))
            layers[module.removeprefix(_PEFT_PREFIX)] = layer
    if not layers or len({layer.down.shape[0] for layer in layers.values()}) != 1:
        raise StudioError(f"{stored.path} does not hold a LoRA of one rank.")
    return AdapterWeights(layers, alpha, config)


def diffusers_tensors(adapter: AdapterWeights) -> dict[str, Tensor]:
    """The diffusers form: `unet.<module>.lora_A.weight`, the scale multiplied into lora_B."""
    tensors: dict[str, Tensor] = {}
    for module, layer in adapter.layers.items():
        tensors[f"unet.{module}{_DOWN}"] = float_tensor(layer.down)
        tensors[f"unet.{module}{_UP}"] = float_tensor(layer.up * np.float32(adapter.scale))
    return tensors


def diffusers_metadata(adapter: AdapterWeights) -> dict[str, str]:
    """What diffusers reads of the adapter's configuration."""
    facts = {
        "r": adapter.rank,
        "lora_alpha": adapter.rank,
        "target_modules": sorted(adapter.config.get("target_modules", [])),
        "lora_dropout": 0.0,
    }
    found = {f"unet.{name}": value for name, value in facts.items()}
    return {"format": "pt", "lora_adapter_metadata": json.dumps(found, sort_keys=True)}


def peft_tensors(adapter: AdapterWeights) -> dict[str, Tensor]:
    """The PEFT form: `base_model.model.<module>.lora_A.weight`."""
    tensors: dict[str, Tensor] = {}
    for module, layer in adapter.layers.items():
        tensors[f"{_PEFT_PREFIX}{module}{_DOWN}"] = float_tensor(layer.down)
        tensors[f"{_PEFT_PREFIX}{module}{_UP}"] = float_tensor(layer.up)
    return tensors


def kohya_tensors(adapter: AdapterWeights, family: Family, layout: UnetLayout) -> dict[str, Tensor]:
    """The kohya form: `lora_unet_<module>.lora_down.weight`, `.lora_up.weight` and `.alpha`."""
    alpha = np.asarray(adapter.alpha, dtype=np.float32)
    tensors: dict[str, Tensor] = {}
    for module, layer in adapter.layers.items():
        name = kohya_name(module, family, layout)
        tensors[f"{name}.alpha"] = float_tensor(alpha)
        tensors[f"{name}.lora_down.weight"] = float_tensor(layer.down)
        tensors[f"{name}.lora_up.weight"] = float_tensor(layer.up)
    return dict(sorted(tensors.items()))


def kohya_name(module: str, family: Family, layout: UnetLayout) -> str:
    """kohya's name of a UNet's module: its trainer runs SDXL on the original UNet."""
    name = layout.name(module) if family.name == "sdxl" else module
    return f"lora_unet_{name.replace('.', '_')}"


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the tensors' bytes in their order: what kohya's programs tell files apart by."""
    digest = hashlib.sha256()
    for tensor in tensors.values():
        digest.update(tensor.data())
    return digest.hexdigest()
