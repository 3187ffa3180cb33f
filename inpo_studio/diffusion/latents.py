"""Between pictures and latents: the VAE, and the noise a picture starts from."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from inpo_studio.diffusion.families import vae_scale_factor
from inpo_studio.diffusion.fitting import OutOfMemory, attempt
from inpo_studio.diffusion.loading import Pipeline, resident
from inpo_studio.seeds import Variation

log = logging.getLogger("inpo_studio.diffusion")

_PIXELS_AT_ONCE = 512 * 512
"""Pixels the VAE codes together: bounds its memory, which is the largest of all parts."""
_TILE = 32
"""Side of a tile in latents, where a whole picture is too much for the VAE."""


def latent_shape(
    pipeline: Pipeline, width: int | None = None, height: int | None = None
) -> tuple[int, int, int]:
    """(channels, height, width) of the latents of a picture; None is the model's own size.

    Raises ValueError when a side is no multiple of what one latent covers.
    """
    width, height = width or pipeline.size[0], height or pipeline.size[1]
    scale = vae_scale_factor(pipeline.configs.vae)
    for name, side in (("width", width), ("height", height)):
        if side % scale or side < scale:
            raise ValueError(f"The {name} {side} must be a multiple of {scale} pixels.")
    return int(pipeline.configs.vae["latent_channels"]), height // scale, width // scale


def initial_noise(
    pipeline: Pipeline,
    seeds: Sequence[int | Variation],
    width: int | None = None,
    height: int | None = None,
) -> Tensor:
    """Standard normal latents (n, c, h, w), float32 on the CPU.

    Each image has its own CPU generator, so a picture depends on its seed alone, not on its batch
    or device; diffusers gives the same for a list of CPU generators. A variation by s is
    cos(a) n + sin(a) n' with a = s pi/2, of the noise n, n' of its two seeds: standard normal too.
    """
    shape = latent_shape(pipeline, width, height)

    def drawn(seed: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def noise(seed: int | Variation) -> Tensor:
        if not isinstance(seed, Variation):
            return drawn(seed)
        angle = 0.5 * math.pi * seed.strength
        return math.cos(angle) * drawn(seed.seed) + math.sin(angle) * drawn(seed.variation_seed)

    return torch.stack([noise(seed) for seed in seeds])


@torch.no_grad()
def encode_images(pipeline: Pipeline, images: Sequence[Image.Image]) -> Tensor:
    """Scaled latents (n, c, h, w), float32 on the CPU, of pictures that are all of one size.

    The mean of the VAE's posterior, not a draw from it: the same picture has the same latents.
    """
    if pipeline.vae is None:
        raise RuntimeError("The VAE was released; load the pipeline again.")
    if len({image.size for image in images}) != 1:
        raise ValueError("Give pictures of one size; resize or crop them first.")
    latent_shape(pipeline, *images[0].size)
    scale, shift = _scale_and_shift(pipeline)
    latents = []
    for chunk in _chunks(len(images), images[0].size):
        stacked = np.stack([np.asarray(image.convert("RGB")) for image in images[chunk]])
        pixels = torch.from_numpy(stacked).permute(0, 3, 1, 2).to(pipeline.device).float()
        mode = _coded(pipeline, lambda vae, x: vae.encode(x).latent_dist.mode(), pixels / 127.5 - 1)
        latents.append((mode - shift) * scale)
    return torch.cat(latents).float().cpu()


@torch.no_grad()
def decode_latents(pipeline: Pipeline, latents: Tensor) -> list[Image.Image]:
    """Pictures of scaled latents (n, c, h, w).

    Raises FloatingPointError when a latent or a pixel is not finite: a black picture must never
    pass for one the model made.
    """
    if pipeline.vae is None:
        raise RuntimeError("The VAE was released; load the pipeline again.")
    scale, shift = _scale_and_shift(pipeline)
    factor = vae_scale_factor(pipeline.configs.vae)
    size = (latents.shape[-1] * factor, latents.shape[-2] * factor)
    images: list[Image.Image] = []
    for chunk in _chunks(len(latents), size):
        unscaled = latents[chunk].to(device=pipeline.device, dtype=torch.float32) / scale + shift
        pixels = _coded(pipeline, lambda vae, x: vae.decode(x, return_dict=False)[0], unscaled)
        pixels = pixels.float()
        if not bool(torch.isfinite(pixels).all()):
            raise FloatingPointError(
                "The model made a picture with values that are not numbers; lower the guidance or "
                "the adapter's strength, or use another model."
            )
        levels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        images += [Image.fromarray(row) for row in levels.permute(0, 2, 3, 1).cpu().numpy()]
    return images


def _coded(pipeline: Pipeline, code: Callable[[Any, Tensor], Tensor], x: Tensor) -> Tensor:
    """What the VAE makes of `x`; where memory runs out, from here on a picture in tiles at a time.

    Tiles overlap and are blended, which changes a picture a little. Raises OutOfMemory where not
    even a tile fits.
    """
    vae, device = pipeline.vae, pipeline.device
    assert vae is not None
    with resident(vae, device):
        found = attempt(lambda: code(vae, x), device)
        if found is None and not vae.use_tiling:
            vae.tile_latent_min_size = _TILE
            vae.tile_sample_min_size = _TILE * vae_scale_factor(pipeline.configs.vae)
            vae.enable_tiling()
            vae.enable_slicing()
            log.warning("Memory ran out in the VAE; going on in tiles.")
            found = attempt(lambda: code(vae, x), device)
    if found is None:
        raise OutOfMemory(
            "Not even a part of a picture fits into the device's memory beside the model; close "
            "other programs, or use a smaller model."
        )
    return found


def _scale_and_shift(pipeline: Pipeline) -> tuple[Tensor, Tensor]:
    """latents = (posterior - shift) * scale, each broadcastable to (n, c, h, w).

    One scaling factor; some SDXL variants add a mean and a deviation per channel, which
    diffusers' SDXL pipeline alone reads.
    """
    config = pipeline.configs.vae
    scale = torch.tensor(float(config.get("scaling_factor", 0.18215)))
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if pipeline.family.size_conditioned and mean is not None and std is not None:
        column = (1, -1, 1, 1)
        scale = scale / torch.tensor(std).reshape(column)
        return scale.to(pipeline.device), torch.tensor(mean).reshape(column).to(pipeline.device)
    return scale.to(pipeline.device), torch.zeros((), device=pipeline.device)


def _chunks(n: int, size: tuple[int, int]) -> list[slice]:
    """Slices over n pictures of `size` pixels that the VAE codes together."""
    count = max(1, _PIXELS_AT_ONCE // (size[0] * size[1]))
    return [slice(i, i + count) for i in range(0, n, count)]
