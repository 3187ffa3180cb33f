"""Names of tensors in single-file checkpoints: the layout that Stable Diffusion was published in.

Every program that reads single files (ComfyUI, AUTOMATIC1111, kohya's trainer, diffusers'
`from_single_file`) goes by these names. The UNet's blocks are counted through there, where
diffusers counts blocks and layers apart; `UnetLayout` holds what that takes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inpo_studio.studio.errors import StudioError

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
CLIP_PREFIX = "cond_stage_model.transformer."
SDXL_CLIP_PREFIX = "conditioner.embedders.0.transformer."
OPEN_CLIP_PREFIX = "cond_stage_model.model."
SDXL_OPEN_CLIP_PREFIX = "conditioner.embedders.1.model."

_UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
    # In older files of diffusers:
    "query": "q",
    "key": "k",
    "value": "v",
    "proj_attn": "proj_out",
}
_OPEN_CLIP = {
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_BLOCK = re.compile(
    r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)"
)
_PLACE = re.compile(r"(input|output|middle)_block(?:s\.(\d+))?\.([012])\.(.+)")
_RESNET = {theirs: mine for mine, theirs in _UNET_RESNET.items()}


@dataclass(frozen=True)
class UnetLayout:
    """What the counting of a UNet's blocks depends on."""

    layers_per_block: int
    attention_up: tuple[bool, ...]
    """Whether each block on the way up has attention: its upsampler is counted behind it."""

    @staticmethod
    def of(config: Mapping[str, Any]) -> UnetLayout:
        """From a UNet's configuration. Raises StudioError where the layout has no such name."""
        layers = config.get("layers_per_block", 2)
        if not isinstance(layers, int):
            raise StudioError(
                "The UNet's blocks have different numbers of layers, which single-file names "
                "cannot express; use the diffusers or peft form."
            )
        up = tuple("Attn" in name for name in config["up_block_types"])
        return UnetLayout(layers, up)

    def name(self, diffusers: str) -> str:
        """The original name of a UNet's module or tensor, without the prefix.

        Raises StudioError for a part that the original layout does not have.
        """
        for mine, theirs in _UNET_ENDS.items():
            if diffusers == mine or diffusers.startswith(f"{mine}."):
                rest = diffusers[len(mine) :]
                return theirs + (_resnet(rest) if ".resnets." in mine else rest)
        found = _BLOCK.fullmatch(diffusers)
        if found is None:
            raise StudioError(
                f"The UNet's part {diffusers} has no name in single-file checkpoints."
            )
        way, block, kind, layer, rest = found.groups()
        return self._in_block(way, int(block), kind, int(layer), rest)

    def module(self, original: str) -> str | None:
        """The diffusers name of a module in a UNet's block, from its original one; the way back
        of `name`. None for what is in no block."""
        found = _PLACE.fullmatch(original)
        if found is None:
            return None
        place, number, slot, rest = found.groups()
        part = _RESNET.get(rest)
        if place == "middle":
            inner = f"resnets.{int(slot) // 2}.{part}"
            return f"mid_block.{f'attentions.0.{rest}' if slot == '1' else inner}"
        # conv_in is block 0 of the input.
        count = int(number) - (place == "input")
        block, layer = divmod(count, self.layers_per_block + 1)
        way = "down" if place == "input" else "up"
        inner = f"resnets.{layer}.{part}"
        if rest in ("op", "conv"):
            inner = f"{way}samplers.0.conv"
        elif slot == "1":
            inner = f"attentions.{layer}.{rest}"
        return f"{way}_blocks.{block}.{inner}"

    def _in_block(self, way: str, block: int, kind: str, layer: int, rest: str) -> str:
        each = self.layers_per_block + 1
        if way == "down":
            # Block 0 of the input is conv_in; a downsampler counts as a layer of its own.
            if kind == "downsamplers":
                return f"input_blocks.{(block + 1) * each}.0.{rest.replace('conv', 'op', 1)}"
            place = f"input_blocks.{block * each + layer + 1}"
        else:
            if kind == "upsamplers":
                behind = 2 if self.attention_up[block] else 1
                return f"output_blocks.{block * each + self.layers_per_block}.{behind}.{rest}"
            place = f"output_blocks.{block * each + layer}"
        return f"{place}.1.{rest}" if kind == "attentions" else f"{place}.0{_resnet('.' + rest)}"


def vae_name(diffusers: str, blocks: int) -> str:
    """The original name of a VAE's tensor, without the prefix; `blocks` as block_out_channels."""
    name = diffusers.replace("conv_norm_out", "norm_out")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    # The original counts the decoder's blocks from the end.
    name = re.sub(
        r"up_blocks\.(\d+)\.resnets", lambda m: f"up.{blocks - 1 - int(m[1])}.block", name
    )
    name = re.sub(
        r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{blocks - 1 - int(m[1])}.upsample", name
    )
    attention = re.fullmatch(r"(.*)mid_block\.attentions\.0\.(.+)\.(weight|bias)", name)
    if attention is not None:
        side, part, kind = attention.groups()
        return f"{side}mid.attn_1.{_VAE_ATTENTION[part]}.{kind}"
    return name.replace("conv_shortcut", "nin_shortcut")


def open_clip_name(part: str) -> str:
    """The OpenCLIP name of a CLIP text model's tensor, both without prefix.

    Queries, keys and values are one tensor there and have no names of their own; see `attention`.
    """
    if part in _OPEN_CLIP:
        return _OPEN_CLIP[part]
    found = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", part)
    if found is None or found[2] not in _OPEN_CLIP_LAYER:
        raise StudioError(f"The text encoder's part {part} has no name in single-file checkpoints.")
    return f"transformer.resblocks.{found[1]}.{_OPEN_CLIP_LAYER[found[2]]}.{found[3]}"


def attention(part: str) -> tuple[str, str] | None:
    """For a query's, key's or value's tensor of a CLIP layer: the OpenCLIP tensor it is a third
    of, and which (q, k or v); None for other tensors."""
    found = re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", part)
    if found is None:
        return None
    return f"transformer.resblocks.{found[1]}.attn.in_proj_{found[3]}", found[2]


def _resnet(rest: str) -> str:
    """`.norm1.weight` -> `.in_layers.0.weight`; the empty rest of a whole block stays."""
    if not rest:
        return rest
    _, part, *more = rest.split(".")
    return ".".join(["", _UNET_RESNET.get(part, part), *more])
