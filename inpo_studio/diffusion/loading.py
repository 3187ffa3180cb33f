"""A model as this studio uses it: its parts frozen, on one device, without a safety checker."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from inpo_studio.diffusion.devices import choose_device, choose_dtype
from inpo_studio.diffusion.families import Family, ModelConfigs, default_size
from inpo_studio.diffusion.memory import MARGIN, Dtype, ModelNeeds
from inpo_studio.diffusion.sources import locate
from inpo_studio.inpo.schedule import Schedule, schedule_from_config

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    from inpo_studio.diffusion.parts import Parts


@dataclass
class Pipeline:
    """A text-to-image model's parts: eval mode, no gradients, on one device."""

    model: str
    """What the user calls it."""
    family: Family
    configs: ModelConfigs
    unet: UNet2DConditionModel
    vae: AutoencoderKL | None
    """float32 always: half precision overflows in SDXL's. None once released."""
    tokenizers: tuple[Any, ...]
    """CLIPTokenizer, in the family's order."""
    text_encoders: tuple[Any, ...]
    """CLIPTextModel or CLIPTextModelWithProjection, in the family's order; empty once released."""
    schedule: Schedule
    device: torch.device
    dtype: torch.dtype
    """Arithmetic of the UNet. On a GPU all its weights have this dtype; on the CPU those of linear
    and convolutional layers have it and the rest are float32, as under autocast."""
    fingerprint: str
    """SHA-256 over the configurations, weights and tokenizers."""
    size: tuple[int, int]
    """Width and height in pixels the model was made for."""

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """The scheduler's configuration as the model ships it."""
        return dict(self.configs.scheduler)

    @property
    def force_zeros_for_empty_prompt(self) -> bool:
        """Whether the empty prompt is conditioned on as zeros, not as encoded text.

        Only diffusers' SDXL pipeline knows the setting; there it defaults to yes.
        """
        setting = self.configs.index.get("force_zeros_for_empty_prompt", True)
        return self.family.size_conditioned and bool(setting)

    def release_encoders(self) -> None:
        """Free the VAE and the text encoders: training on cached latents needs neither."""
        self.vae, self.text_encoders = None, ()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def load_pipeline(model: str, *, device: str = "auto", dtype: str = "auto") -> Pipeline:
    """Load 'postcards', a pipeline folder, a .safetensors checkpoint or a Hub id.

    device: auto, cpu, cuda, cuda:N or mps. dtype: auto, float32, bfloat16 or float16 (see
    Pipeline.dtype). Raises UnsupportedModel, UnsupportedSchedule or ValueError, one sentence each.
    """
    place = choose_device(device)
    arithmetic = choose_dtype(dtype, place)
    source = locate(model)
    # Imported here: it pulls in diffusers and transformers, and a wrong name should fail before.
    from inpo_studio.diffusion.parts import read_parts

    parts = read_parts(source, torch.float32 if place.type == "cpu" else arithmetic)
    rest = place if _all_fit(parts, place, arithmetic) else torch.device("cpu")
    for network in (parts.unet, parts.vae, *parts.text_encoders):
        network.requires_grad_(False).eval().to(place if network is parts.unet else rest)
    if place.type == "cpu":
        _lower(parts.unet, arithmetic)
    return Pipeline(
        model=model,
        family=parts.family,
        configs=parts.configs,
        unet=parts.unet,
        vae=parts.vae,
        tokenizers=parts.tokenizers,
        text_encoders=parts.text_encoders,
        schedule=schedule_from_config(parts.configs.scheduler),
        device=place,
        dtype=arithmetic,
        fingerprint=parts.fingerprint,
        size=default_size(parts.configs),
    )


def _all_fit(parts: Parts, place: torch.device, dtype: torch.dtype) -> bool:
    """Whether a picture can be drawn with all networks on the device; only a card may be short."""
    if place.type != "cuda":
        return True
    counted = ModelNeeds.of(parts.configs)
    encoders = sum(p.numel() for encoder in parts.text_encoders for p in encoder.parameters())
    needs = replace(counted, encoder_parameters=encoders)
    drawing = needs.drawing(cast(Dtype, str(dtype).removeprefix("torch.")), 1, 16)
    return drawing.total <= MARGIN * int(torch.cuda.mem_get_info(place)[0])


@contextmanager
def resident(network: nn.Module, device: torch.device) -> Iterator[None]:
    """A text encoder or VAE on the device for a block; then back where it rests.

    On a card that does not hold all of a model these rest on the CPU.
    """
    rest = next(network.parameters()).device
    if rest.type == device.type:
        yield
        return
    network.to(device)
    try:
        yield
    finally:
        network.to(rest)
        if device.type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def autocast(pipeline: Pipeline) -> Iterator[None]:
    """Arithmetic in the pipeline's dtype; for float32, without any autocast around it."""
    enabled = pipeline.dtype != torch.float32
    with torch.autocast(pipeline.device.type, dtype=pipeline.dtype, enabled=enabled):
        yield


def _lower(unet: nn.Module, dtype: torch.dtype) -> None:
    """Keep in `dtype` the weights that autocast would cast at every forward; the same results."""
    for module in unet.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.to(dtype)
