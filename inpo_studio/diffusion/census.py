"""A UNet counted through from its configuration: weights, adapters, and what training keeps.

No network is built, so a page or a terminal can ask in no time. Counts of weights are exact;
those of activations follow what PyTorch keeps for the backward pass of frozen layers with LoRA on
their attention and the convolutions of their ResNet blocks, with fused attention (no score
matrix). An adapter of attention alone takes a little less. Torch-free.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TEXT_TOKENS = 77


@dataclass(frozen=True)
class Unit:
    """A part of the UNet that gradient checkpointing runs again as a whole, or never.

    Elements are counted for one picture.
    """

    parameters: int
    adapted: int = 0
    """Sum of inputs (those of all nine places of a kernel) and outputs of the adapted layers: LoRA
    weights at rank 1."""
    norms: int = 0
    """Elements kept by normalisations, which mixed precision computes in float32."""
    others: int = 0
    """Elements kept in the working precision."""
    copies: int = 0
    """Elements kept only in mixed precision, as copies in another precision."""
    inputs: int = 0
    """Elements of its input, which is what remains of it under gradient checkpointing."""
    checkpointed: bool = False
    trained: bool = False
    """Whether gradients flow through it: it is not before the first adapted layer."""

    def kept_bytes(self, item: int) -> int:
        """Bytes kept for the backward pass at `item` bytes a number (4: no mixed precision)."""
        if not self.trained:
            return 0
        mixed = self.copies if item < 4 else 0
        return 4 * self.norms + item * (self.others + mixed)


@dataclass(frozen=True)
class _Shape:
    """A UNet's configuration with per-block values spread out."""

    channels: Sequence[int]
    layers: int
    text: int
    temb: int
    depth: Sequence[int]
    heads: Sequence[int]
    linear: bool
    config: Mapping[str, Any]

    @staticmethod
    def of(config: Mapping[str, Any]) -> _Shape:
        channels = list(config["block_out_channels"])
        heads = config.get("num_attention_heads") or config.get("attention_head_dim", 8)
        depth = config.get("transformer_layers_per_block", 1)
        return _Shape(
            channels=channels,
            layers=int(config.get("layers_per_block", 2)),
            text=int(config["cross_attention_dim"]),
            temb=4 * channels[0],
            depth=_spread(depth, len(channels)),
            heads=_spread(heads, len(channels)),
            linear=bool(config.get("use_linear_projection", False)),
            config=config,
        )


def unet_units(config: Mapping[str, Any], height: int, width: int) -> list[Unit]:
    """The UNet's parts in the order of its forward pass, for latents of height x width."""
    return _mark_trained(list(_units(_Shape.of(config), height, width)))


def _units(unet: _Shape, height: int, width: int) -> Iterator[Unit]:
    first = unet.channels[0]
    latent = int(unet.config.get("in_channels", 4))
    yield Unit(_conv(latent, first) + _embeddings(unet))
    skips = [first]
    area = height * width
    for index, channels in enumerate(unet.channels):
        before = unet.channels[max(0, index - 1)]
        attends = "Attn" in unet.config["down_block_types"][index]
        for layer in range(unet.layers):
            yield _resnet(before if layer == 0 else channels, channels, area, unet.temb)
            if attends:
                yield from _transformer(unet, index, channels, area)
            skips.append(channels)
        if index < len(unet.channels) - 1:
            yield Unit(_conv(channels, channels), others=area * channels)
            area = area // 4
            skips.append(channels)
    last = unet.channels[-1]
    # The middle block's first resnet is run outside of checkpointing.
    yield _resnet(last, last, area, unet.temb, checkpointed=False)
    yield from _transformer(unet, len(unet.channels) - 1, last, area)
    yield _resnet(last, last, area, unet.temb)
    yield from _way_up(unet, skips, area)


def _way_up(unet: _Shape, skips: list[int], area: int) -> Iterator[Unit]:
    hidden = unet.channels[-1]
    for block, kind in enumerate(unet.config["up_block_types"]):
        index = len(unet.channels) - 1 - block
        channels = unet.channels[index]
        for _ in range(unet.layers + 1):
            yield _resnet(hidden + skips.pop(), channels, area, unet.temb)
            hidden = channels
            if "Attn" in kind:
                yield from _transformer(unet, index, channels, area)
        if block < len(unet.channels) - 1:
            area = area * 4
            yield Unit(_conv(channels, channels), others=area * channels)
    out = int(unet.config.get("out_channels", 4))
    yield Unit(2 * hidden + _conv(hidden, out), norms=2 * area * hidden, others=area * hidden)


def _resnet(before: int, after: int, area: int, temb: int, *, checkpointed: bool = True) -> Unit:
    """Two normalised convolutions, each of which keeps its input and those of norm and SiLU.

    In mixed precision an adapter keeps a copy of its layer's input.
    """
    shortcut = before != after
    return Unit(
        parameters=2 * before
        + _conv(before, after)
        + (temb + 1) * after
        + 2 * after
        + _conv(after, after)
        + (_conv(before, after, 1) if shortcut else 0),
        adapted=9 * (before + after) + 2 * after,
        norms=2 * area * (before + after),
        others=area * (before + after),
        copies=area * (before + after + (before if shortcut else 0)),
        inputs=area * before,
        checkpointed=checkpointed,
    )


def _transformer(unet: _Shape, index: int, channels: int, area: int) -> Iterator[Unit]:
    """A projection in, `depth` layers of attention and feed-forward, a projection out."""
    size = area * channels
    linear = unet.linear
    ends = 2 * (channels * channels + channels)
    yield Unit(2 * channels + ends, norms=size, others=0 if linear else 2 * size)
    layer = _layer(channels, unet.text, area, unet.heads[index])
    yield from [layer] * unet.depth[index]


def _layer(channels: int, text: int, area: int, heads: int) -> Unit:
    size, words = area * channels, TEXT_TOKENS * channels
    projections = 4 * channels * channels + channels  # self-attention; only the last has a bias
    crossed = 2 * channels * channels + 2 * text * channels + channels
    forward = channels * 8 * channels + 8 * channels + 4 * channels * channels + channels
    # Self-attention keeps its input, q, k, v and output; in mixed precision the input three times.
    own, own_copies = 5 * size, 3 * size
    other, other_copies = 3 * size + 2 * words, size + 2 * TEXT_TOKENS * text
    gated = 3 * 4 * size  # both halves of the gate and the gate itself
    return Unit(
        parameters=projections + crossed + forward + 6 * channels,
        adapted=8 * channels + 6 * channels + 2 * text,
        norms=3 * size + 2 * area * heads,
        others=own + other + gated,
        copies=own_copies + other_copies,
        inputs=size,
        checkpointed=True,
    )


def _embeddings(unet: _Shape) -> int:
    """Weights that turn the timestep, and where there is one the size, into an embedding."""
    temb = unet.temb
    count = (unet.channels[0] + 1) * temb + (temb + 1) * temb
    if unet.config.get("addition_embed_type") == "text_time":
        inputs = int(unet.config["projection_class_embeddings_input_dim"])
        count += (inputs + 1) * temb + (temb + 1) * temb
    return count


def _mark_trained(units: list[Unit]) -> list[Unit]:
    """Gradients flow from the first adapted layer on."""
    first = next(index for index, unit in enumerate(units) if unit.adapted)
    return [
        Unit(**{**vars(unit), "trained": True}) if index >= first else unit
        for index, unit in enumerate(units)
    ]


def _conv(before: int, after: int, side: int = 3) -> int:
    return before * after * side * side + after


def _spread(value: Any, count: int) -> list[int]:
    return [int(value)] * count if isinstance(value, int) else [int(each) for each in value]
