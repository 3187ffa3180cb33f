"""How LoRA files call their tensors, and which of a UNet's modules each name means.

Three ways are in use: diffusers' (`unet.MODULE.lora_A.weight`, `unet.MODULE.lora.down.weight`),
PEFT's (`base_model.model.MODULE.lora_A.weight`) and kohya's (`lora_unet_MODULE.lora_down.weight`,
with `_` for `.`, and with the original names of the UNet's blocks for SDXL).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from inpo_studio.diffusion.families import Family
from inpo_studio.studio.errors import StudioError
from inpo_studio.transfer.adapters import Form, kohya_name
from inpo_studio.transfer.original import UnetLayout

ATTENTION = ("to_k", "to_out.0", "to_q", "to_v")
"""The kinds of modules that every round trains, by the ends of their names."""
KINDS = (
    *ATTENTION,
    *("ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"),
    *("conv1", "conv2", "conv_shortcut", "time_emb_proj"),
    *("downsamplers.0.conv", "upsamplers.0.conv"),
)
"""With those that a round trains as well where its parent has them."""

Part = Literal["down", "up", "alpha"]
_PARTS: tuple[tuple[str, Part], ...] = (
    (".lora_A.weight", "down"),
    (".lora_B.weight", "up"),
    (".lora_A.default.weight", "down"),
    (".lora_B.default.weight", "up"),
    (".lora_down.weight", "down"),
    (".lora_up.weight", "up"),
    (".lora.down.weight", "down"),
    (".lora.up.weight", "up"),
    ("_lora.down.weight", "down"),
    ("_lora.up.weight", "up"),
    (".alpha", "alpha"),
)
_OTHER_KINDS = {
    r"\.(dora_scale|lora_magnitude_vector(\..+)?)": "DoRA",
    r"\.hada_\w+": "LoHa",
    r"\.lokr_\w+": "LoKr",
    r"\.oft_\w+": "OFT",
    r"\.lora_mid\.weight": "LoCon with a middle part",
    r"\.lora_(B|up)(\.\w+)?\.bias": "LoRA with biases",
    r"\.diff(_b)?": "LoRA with whole weights",
}
"""Ends of names of what is related to a LoRA and adds something else."""
_TEXT = ("lora_te_", "lora_te1_", "lora_te2_", "lora_te3_", "text_encoder.", "text_encoder_2.")
_OF_A_BLOCK = re.compile(
    r"[._]attn[12][._]|[._]ff[._]net[._]|[._]proj_(in|out)|[._]resnets[._]|(in|out|emb)_layers[._]"
    r"|samplers[._]|_[012]_op$"
)


@dataclass(frozen=True)
class TensorName:
    """A tensor's name in its parts."""

    form: Form
    layer: str
    """The layer as its file calls it, without what tells the form."""
    part: Part
    of_text: bool
    """Whether the layer is of a text encoder."""


def read_name(file: str, name: str) -> TensorName:
    """Take a tensor's name apart; StudioError where it is of no plain LoRA."""
    for end, part in _PARTS:
        if name.endswith(end):
            return _with_form(name.removesuffix(end), part)
    for last, kind in _OTHER_KINDS.items():
        if re.search(rf"{last}\Z", name):
            raise StudioError(
                f"{file} is a {kind}, which a round cannot go on from; merge it into the model "
                "with the program that made it, and open the merged model."
            )
    raise StudioError(
        f"{file} is no LoRA: it holds a tensor {name}; give a LoRA in diffusers', PEFT's or "
        "kohya's form."
    )


def _with_form(layer: str, part: Part) -> TensorName:
    if layer.startswith("lora_"):
        return TensorName("kohya", layer, part, layer.startswith(_TEXT))
    if layer.startswith(_TEXT):
        return TensorName("diffusers", layer, part, True)
    if layer.startswith("base_model.model."):
        bare = layer.removeprefix("base_model.model.")
        return TensorName("peft", bare, part, bare.startswith("text_model."))
    return TensorName("diffusers", layer.removeprefix("unet."), part, False)


def looks_like_a_blocks(layer: str) -> bool:
    """Whether a layer's name is that of a part of a block in some UNet."""
    return _OF_A_BLOCK.search(layer) is not None


def kind_of(module: str) -> str | None:
    """Which of KINDS a module of a UNet is, by diffusers' names; None for others."""
    if not module.startswith(("down_blocks.", "mid_block.", "up_blocks.")):
        return None
    return next((kind for kind in KINDS if module.endswith(f".{kind}")), None)


def names_of(modules: Iterable[str], family: Family, layout: UnetLayout) -> dict[str, str]:
    """Every name that a file may have for one of these modules, and the module it means."""
    found: dict[str, str] = {}
    for module in modules:
        kind = kind_of(module) or ""
        # Before diffusers 0.20 the layers were the attention's processors'.
        processor = f"{module.removesuffix(kind)}processor.{kind.removesuffix('.0')}"
        found[module] = module
        found[processor] = module
        found[f"lora_unet_{module.replace('.', '_')}"] = module
        found[kohya_name(module, family, layout)] = module
    return found
