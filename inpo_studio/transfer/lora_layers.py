"""Another's LoRA in the form that a round trains: whole kinds of layers, all of one rank.

A layer of a smaller rank, or one that is missing, is filled up as training begins a new adapter:
`down` is drawn, `up` is zero. That adds nothing to the pictures and can be trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from inpo_studio.diffusion.families import Family, ModelConfigs
from inpo_studio.seeds import derive_seed
from inpo_studio.studio.errors import StudioError
from inpo_studio.transfer.adapters import AdapterWeights, Layer
from inpo_studio.transfer.lora_files import ForeignLayer, ForeignLora
from inpo_studio.transfer.lora_names import ATTENTION, kind_of, looks_like_a_blocks, names_of
from inpo_studio.transfer.original import UNET_PREFIX, UnetLayout
from inpo_studio.transfer.single_files import component
from inpo_studio.transfer.tensors import Floats, TensorFile

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of a UNet's weights that can be trained, by the modules' names in diffusers: outputs and
inputs, and for a convolution height and width of its kernel."""


def trainable_shapes(source: Path, configs: ModelConfigs) -> Shapes:
    """Read from the headers of the model's files; no weights are loaded."""
    return {
        name.removesuffix(".weight"): shape
        for name, shape in _unet_weights(source, configs)
        if name.endswith(".weight") and kind_of(name.removesuffix(".weight")) is not None
    }


def _unet_weights(source: Path, configs: ModelConfigs) -> Iterator[tuple[str, tuple[int, ...]]]:
    if source.is_dir():
        for each in component(source, "unet"):
            yield each.name, each.file.shape(each.name)
        return
    layout, file = UnetLayout.of(configs.unet), TensorFile(source)
    for name in file:
        module = layout.module(name.removeprefix(UNET_PREFIX).removesuffix(".weight"))
        if name.startswith(UNET_PREFIX) and name.endswith(".weight") and module is not None:
            yield f"{module}.weight", file.shape(name)


def as_one_rank(
    lora: ForeignLora, shapes: Shapes, family: Family, configs: ModelConfigs
) -> AdapterWeights:
    """The LoRA's layers under diffusers' names, all of one rank and scale.

    They are those of the file where it has but one of each. Raises StudioError for a LoRA of
    another model, and for one with layers that a round does not train.
    """
    placed = _placed(lora, shapes, family, UnetLayout.of(configs.unet))
    rank = max(layer.down.shape[0] for layer in placed.values())
    scales = {layer.scale for layer in placed.values()}
    scale = scales.pop() if len(scales) == 1 else 1.0
    kinds = {*ATTENTION, *(kind_of(module) or "" for module in placed)}
    layers = {
        module: _filled(module, placed.get(module), rank, scale, shape)
        for module, shape in shapes.items()
        if kind_of(module) in kinds
    }
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "r": rank,
        "lora_alpha": scale * rank,
        "target_modules": sorted(kinds),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
    return AdapterWeights(layers, scale * rank, config)


def _placed(
    lora: ForeignLora, shapes: Shapes, family: Family, layout: UnetLayout
) -> dict[str, ForeignLayer]:
    """The LoRA's layers by the modules they are of."""
    file = lora.file.name
    names = names_of(shapes, family, layout)
    other = StudioError(
        f"{file} was made for another model than this {family.title} one; give a LoRA that was "
        "made for it."
    )
    unknown = [layer for layer in lora.layers if layer not in names]
    if any(looks_like_a_blocks(layer) for layer in unknown):
        raise other
    placed: dict[str, ForeignLayer] = {}
    for name, layer in lora.layers.items():
        if name not in names:
            continue
        module = names[name]
        if module in placed:
            raise StudioError(f"{file} holds the layer {module} twice; get it anew.")
        outputs, *inputs = shapes[module]
        if (outputs, math.prod(inputs)) != (layer.up.shape[0], layer.down.shape[1]):
            raise other
        placed[module] = layer
    if not placed:
        raise other
    if unknown:
        raise StudioError(
            f"{file} also changes {len(unknown)} layers outside of the UNet's blocks "
            f"({unknown[0]}, …), which a round does not train; merge it into the model with "
            "kohya's or ComfyUI's tools, and open the merged model."
        )
    return placed


def _filled(
    module: str, layer: ForeignLayer | None, rank: int, scale: float, shape: tuple[int, ...]
) -> Layer:
    """A layer of this rank and scale that adds the same."""
    outputs, *inputs = shape
    down, up = _drawn(module, rank, inputs), np.zeros((outputs, rank), dtype=np.float32)
    if layer is not None:
        there = layer.down.shape[0]
        down[:there] = layer.down.reshape(there, *inputs)
        up[:, :there] = layer.up * np.float32(layer.scale / scale)
    return Layer(down, up.reshape(outputs, rank, *[1] * (len(inputs) - 1)))


def _drawn(module: str, rank: int, inputs: list[int]) -> Floats:
    """As training draws it: uniform in +-1/sqrt(input channels), the same at every import."""
    chance = np.random.default_rng(derive_seed("imported", module))
    bound = inputs[0] ** -0.5
    return chance.uniform(-bound, bound, (rank, *inputs)).astype(np.float32)
