"""What several tests of adapters do."""

from __future__ import annotations

import torch
from torch import Tensor

from inpo_studio.diffusion.adapters import adapter_parameters
from inpo_studio.diffusion.conditioning import encode_prompts, predict_noise
from inpo_studio.diffusion.latents import initial_noise
from inpo_studio.diffusion.loading import Pipeline


def predict(pipeline: Pipeline) -> Tensor:
    """A prediction with whatever adapters are active."""
    conditioning = encode_prompts(pipeline, ["a red house"])
    return predict_noise(pipeline, initial_noise(pipeline, [0]), torch.tensor([501]), conditioning)


def shake(pipeline: Pipeline, name: str, seed: int = 0) -> None:
    """Give an adapter random values, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in adapter_parameters(pipeline.unet, name):
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
