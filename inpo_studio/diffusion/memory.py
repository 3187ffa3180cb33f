"""What training and drawing need of a device's memory, and a plan that fits what is free.

Weights, adapters and kept activations are counted from the configuration (see `census`). What
the libraries take on top is allowed for by fixed amounts, so a total is an estimate: generous
rather than exact. Torch-free.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from inpo_studio.diffusion.census import Unit, unet_units
from inpo_studio.diffusion.families import ModelConfigs, default_size, vae_scale_factor

GIB = 2**30
PRESETS: Mapping[str, int] = {f"{size} GB": size * GIB for size in (8, 12, 16, 24)}
"""Memory of usual cards, in bytes."""
MARGIN = 0.93
"""Share of the free memory that a plan uses: the rest is lost to fragmentation."""
CONTEXT = int(0.6 * GIB)
"""Bytes of the device's driver, libraries and their workspaces, per process."""

_ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_ADAPTER_BYTES = 4 + 4 + 8 + 4 + 4
"""A number of an adapter while it is trained: value, gradient, AdamW's two moments, the running
average, and the parent's value. All float32."""
_VAE_BYTES_A_PIXEL = 3 * 4 * 256
"""Three live tensors of 256 float32 channels at full resolution, while the VAE decodes."""
_VAE_PIXELS_AT_ONCE = 512 * 512
MOST_PREDICTED = 32
"""No part of a round predicts more pictures in one forward pass without gradients."""
Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Estimate:
    """Bytes on the device, by what they are for."""

    weights: int
    adapters: int
    activations: int
    """Kept for the backward pass; nothing while drawing."""
    working: int
    """Alive for a moment: the largest part's own activations and gradients, the VAE's decoding."""
    context: int = CONTEXT

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.adapters + self.activations + self.working + self.context


@dataclass(frozen=True)
class Plan:
    """How to train and draw within some memory."""

    budget: int
    """Bytes that were free."""
    dtype: Dtype
    gradient_checkpointing: bool
    micro_batch_pairs: int
    """Pairs in one forward pass; more passes make up an optimiser step."""
    pictures_at_once: int
    predicted_at_once: int
    """Pictures in one forward pass of a round without gradients: a power of two."""
    training: Estimate
    drawing: Estimate

    @property
    def trains(self) -> bool:
        """Whether training fits."""
        return self.training.total <= MARGIN * self.budget

    @property
    def draws(self) -> bool:
        """Whether pictures can be drawn with all of the model on the device."""
        return self.drawing.total <= MARGIN * self.budget

    @property
    def sentence(self) -> str:
        """The plan in one sentence, or what is missing and the way out."""
        need, free = _gigabytes(self.training.total), _gigabytes(self.budget)
        if not self.trains:
            return (
                f"A round needs about {need} and {free} are free: close other programs, make "
                "smaller pictures, or use a smaller model or a larger card."
            )
        saving = ", activations computed twice to save memory" * self.gradient_checkpointing
        pairs = "pair" if self.micro_batch_pairs == 1 else "pairs"
        said = f"{self.dtype}, {self.micro_batch_pairs} {pairs} at once{saving}: about {need}"
        if not self.draws:
            more = _gigabytes(self.drawing.total)
            return f"A round fits ({said}); drawing pictures needs about {more}, {free} are free."
        return f"{said} of {free}; {self.pictures_at_once} pictures at once."


@dataclass(frozen=True)
class ModelNeeds:
    """A model's parts, counted once."""

    units: Sequence[Unit]
    """Of the UNet at the size of the pictures."""
    pixels: int
    encoder_parameters: int
    vae_parameters: int

    @staticmethod
    def of(
        configs: ModelConfigs,
        text_encoders: Sequence[Mapping[str, Any]] = (),
        size: tuple[int, int] | None = None,
    ) -> ModelNeeds:
        """From configurations; `size` is the pictures' width and height, else the model's own."""
        width, height = size or default_size(configs)
        scale = vae_scale_factor(configs.vae)
        return ModelNeeds(
            units=unet_units(configs.unet, height // scale, width // scale),
            pixels=width * height,
            encoder_parameters=sum(text_parameters(config) for config in text_encoders),
            vae_parameters=vae_parameters(configs.vae),
        )

    def training(
        self, dtype: Dtype, pairs: int, rank: int, *, gradient_checkpointing: bool
    ) -> Estimate:
        """One round: winner and loser of `pairs` pairs in a forward and backward pass.

        The VAE and the text encoders are not on the device then.
        """
        item, pictures = _ITEM_BYTES[dtype], 2 * pairs
        kept = [unit.kept_bytes(item) for unit in self.units]
        largest = max(kept)  # its gradients or, with checkpointing, itself a second time
        if gradient_checkpointing:
            kept = [
                item * unit.inputs if unit.checkpointed and unit.trained else bytes_
                for unit, bytes_ in zip(self.units, kept, strict=True)
            ]
        return Estimate(
            weights=item * sum(unit.parameters for unit in self.units),
            adapters=_ADAPTER_BYTES * rank * sum(unit.adapted for unit in self.units),
            activations=pictures * sum(kept),
            working=pictures * largest,
        )

    def predicting(self, dtype: Dtype, pictures: int, rank: int) -> Estimate:
        """A round's forward pass of `pictures` pictures without gradients, as inversion takes."""
        alone = self.training(dtype, 0, rank, gradient_checkpointing=False)
        return replace(alone, working=pictures * self._largest(dtype))

    def drawing(self, dtype: Dtype, pictures: int, rank: int) -> Estimate:
        """`pictures` pictures at once, with guidance; the VAE decodes a few of them at a time."""
        item = _ITEM_BYTES[dtype]
        together = max(1, _VAE_PIXELS_AT_ONCE // self.pixels)
        decoding = _VAE_BYTES_A_PIXEL * self.pixels * min(pictures, together)
        networks = sum(unit.parameters for unit in self.units) + self.encoder_parameters
        return Estimate(
            weights=item * networks + 4 * self.vae_parameters,
            adapters=4 * rank * sum(unit.adapted for unit in self.units),
            activations=0,
            working=max(2 * pictures * self._largest(dtype), decoding),
        )

    def _largest(self, dtype: Dtype) -> int:
        """Bytes of one picture in the part of the UNet that needs most, without gradients."""
        item = _ITEM_BYTES[dtype]
        return max(4 * unit.norms + item * unit.others for unit in self.units)


def plan(
    needs: ModelNeeds,
    free: int,
    *,
    dtype: Dtype = "bfloat16",
    rank: int = 8,
    batch_pairs: int = 8,
    most_pairs: int | None = None,
    pictures: int = 8,
) -> Plan:
    """The fastest way that fits `free` bytes; the most frugal one where none does.

    `free` includes what of the model is on the device already. At most `most_pairs` pairs (None:
    all of a step's `batch_pairs`) go through the UNet at once.

    Many pairs at once are best; fewer cost little; computing activations twice costs a third more
    time, so it comes last.
    """
    most = batch_pairs if most_pairs is None else most_pairs
    divisors = [n for n in range(most, 0, -1) if batch_pairs % n == 0]
    ways = [(n, checkpointing) for checkpointing in (False, True) for n in divisors]
    for pairs, checkpointing in ways:
        training = needs.training(dtype, pairs, rank, gradient_checkpointing=checkpointing)
        if training.total <= MARGIN * free:
            break
    for together in range(pictures, 0, -1):
        drawing = needs.drawing(dtype, together, rank)
        if drawing.total <= MARGIN * free:
            break
    predicted = MOST_PREDICTED
    while predicted > 1 and needs.predicting(dtype, predicted, rank).total > MARGIN * free:
        predicted //= 2
    return Plan(free, dtype, checkpointing, pairs, together, predicted, training, drawing)


def halved(micro_batch_pairs: int, batch_pairs: int) -> int | None:
    """The next smaller micro-batch that divides the batch, at most half; None below one pair."""
    smaller = range(micro_batch_pairs // 2, 0, -1)
    return next((n for n in smaller if batch_pairs % n == 0), None)


def read_text_configs(folder: Path) -> list[dict[str, Any]]:
    """The configurations of a pipeline folder's text encoders."""
    paths = [folder / name / "config.json" for name in ("text_encoder", "text_encoder_2")]
    return [json.loads(path.read_text("utf-8")) for path in paths if path.is_file()]


def text_parameters(config: Mapping[str, Any]) -> int:
    """Weights of a CLIP text encoder."""
    width, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    tokens = int(config["vocab_size"]) + int(config["max_position_embeddings"])
    layer = 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width
    projects = "CLIPTextModelWithProjection" in (config.get("architectures") or [])
    projection = width * int(config["projection_dim"]) if projects else 0
    return tokens * width + int(config["num_hidden_layers"]) * layer + 2 * width + projection


def vae_parameters(config: Mapping[str, Any]) -> int:
    """Weights of a KL autoencoder of the SD family, to a few per cent."""
    channels = list(config["block_out_channels"])
    layers = int(config.get("layers_per_block", 1))
    last = channels[-1]
    count = 2 * (2 * 2 * 9 * last * last + 4 * last * last)  # the middles of both halves
    for index, here in enumerate(channels):
        before = channels[max(0, index - 1)]
        behind = channels[min(len(channels) - 1, index + 1)]
        count += 9 * here * (before + here) + (layers - 1) * 18 * here * here + 9 * here * here
        count += 9 * here * (behind + here) + layers * 18 * here * here + 9 * here * here
    return count


def _gigabytes(count: int) -> str:
    return f"{count / GIB:.1f} GB"
