"""Inversion by real UNets, held against diffusers step by step; and an image there and back.

Deterministic DDIM is exact only in the limit of small steps: the noise of a step up is evaluated
before it, that of a step down behind it. The error of the way there and back falls in proportion
to the number of levels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler
from torch import Tensor

from inpo_studio.configs import GenerationConfig
from inpo_studio.diffusion.conditioning import Conditioning, encode_prompts, predict_noise
from inpo_studio.diffusion.latents import decode_latents, initial_noise
from inpo_studio.diffusion.loading import Pipeline, load_pipeline
from inpo_studio.diffusion.sampling import sample
from inpo_studio.inpo.inversion import invert, level_grid
from inpo_studio.inpo.schedule import Schedule, ddim_step, noise_from_prediction, predicted_x_0
from tests.hub_models import change, copy

PROMPTS = ["a red house", "two boats"]
LEVELS = 10
SAME = 1e-5
"""Largest difference in fp32 to what diffusers computes, relative to the largest latent."""
MEAN_PIXEL_ERROR = 1.5
"""Of 255, for postcards inverted over 50 levels and sampled back; measured: 1.15."""
LATENT_ERROR = 0.065
"""The same in latents, relative and root mean square; measured: 0.057."""


def close(ours: Tensor, theirs: Tensor) -> bool:
    return float((ours - theirs).abs().max()) <= SAME * max(1.0, float(theirs.abs().max()))


def denoiser(pipeline: Pipeline, conditioning: Conditioning) -> Callable[[Tensor, int], Tensor]:
    def denoise(x_t: Tensor, timestep: int) -> Tensor:
        return predict_noise(pipeline, x_t, torch.full((len(x_t),), timestep), conditioning)

    return denoise


@torch.no_grad()
def raw_prediction(pipe: Any, kind: str, x_t: Tensor, timestep: int) -> Tensor:
    """What the UNet of diffusers' own pipeline says, conditioned by that pipeline's own code."""
    if kind == "sdxl":
        embeds, _, pooled, _ = pipe.encode_prompt(PROMPTS, do_classifier_free_guidance=False)
        time_ids = torch.tensor([[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]] * len(PROMPTS))
        added = {"text_embeds": pooled, "time_ids": time_ids}
    else:
        embeds, _ = pipe.encode_prompt(PROMPTS, "cpu", 1, False)
        added = None
    predicted = pipe.unet(x_t, timestep, embeds, added_cond_kwargs=added).sample
    assert isinstance(predicted, Tensor)
    return predicted


def test_every_step_up_is_that_of_diffusers(
    kind: str, pipeline: Pipeline, diffusers_pipeline: Callable[[str], Any]
) -> None:
    """For noise (SD 1, SDXL) and v (SD 2), with the schedule each model ships."""
    assert pipeline.schedule.prediction_type == ("v_prediction" if kind == "sd2v" else "epsilon")
    theirs = DDIMInverseScheduler.from_config(
        pipeline.scheduler_config, clip_sample=False, timestep_spacing="leading"
    )
    theirs.set_timesteps(LEVELS)
    levels = level_grid(LEVELS)
    assert theirs.timesteps.tolist() == list(levels)
    x_0 = 0.7 * initial_noise(pipeline, [1, 2])
    found = invert(
        denoiser(pipeline, encode_prompts(pipeline, PROMPTS)), x_0, pipeline.schedule, levels
    )
    pipe = diffusers_pipeline(kind)
    x, label = x_0, 0
    for index, level in enumerate(levels):
        x = theirs.step(raw_prediction(pipe, kind, x, label), level, x).prev_sample
        assert close(found.x_t[index], x), level
        label = level


def test_noise_predictions_are_those_of_diffusers(
    kind: str, pipeline: Pipeline, diffusers_pipeline: Callable[[str], Any]
) -> None:
    """Through the x_0 that diffusers' scheduler derives from the same prediction."""
    pipe = diffusers_pipeline(kind)
    config = {**pipeline.scheduler_config, "clip_sample": False}
    scheduler = DDIMScheduler.from_config(config)
    scheduler.set_timesteps(LEVELS)
    denoise = denoiser(pipeline, encode_prompts(pipeline, PROMPTS))
    for timestep in (1, 301, 601, 801):
        x_t = initial_noise(pipeline, [3, 4])
        alpha_bar = pipeline.schedule.at(timestep)
        raw = raw_prediction(pipe, kind, x_t, timestep)
        x_0 = scheduler.step(raw, timestep, x_t).pred_original_sample
        assert close(predicted_x_0(x_t, denoise(x_t, timestep), alpha_bar), x_0)
        ours = noise_from_prediction(raw, x_t, alpha_bar, pipeline.schedule.prediction_type)
        assert close(denoise(x_t, timestep), ours)


@torch.no_grad()
def there_and_back(
    denoise: Callable[[Tensor, int], Tensor], x_0: Tensor, schedule: Schedule, count: int
) -> Tensor:
    """Inverted over `count` levels and sampled down the same levels, without guidance."""
    levels = level_grid(count)
    x = invert(denoise, x_0, schedule, levels).x_t[-1]
    here = schedule.at(levels[-1])
    final = torch.tensor(schedule.final_alpha_bar, dtype=torch.float64)
    for place in range(count - 1, -1, -1):
        below = schedule.at(levels[place - 1]) if place else final
        x, here = ddim_step(x, denoise(x, levels[place]), here, below), below
    return x


def test_a_postcard_inverted_and_sampled_back_returns() -> None:
    pipeline = load_pipeline("postcards", device="cpu", dtype="float32")
    prompts = ["a lighthouse by the sea at dusk", "a red barn in a field"]
    made = sample(pipeline, prompts, [1, 2], GenerationConfig(steps=20, guidance=3.0))
    x_0 = torch.stack([each.latents for each in made])
    denoise = denoiser(pipeline, encode_prompts(pipeline, prompts))
    errors = {}
    for count in (25, 50):
        back = there_and_back(denoise, x_0, pipeline.schedule, count)
        errors[count] = float((back - x_0).norm() / x_0.norm())
    assert errors[50] < LATENT_ERROR
    assert 1.7 < errors[25] / errors[50] < 2.3, "the error falls with the number of levels"
    shown = [np.asarray(image, dtype=float) for image in decode_latents(pipeline, back)]
    expected = [np.asarray(each.image, dtype=float) for each in made]
    differences = [abs(a - b).mean() for a, b in zip(shown, expected, strict=True)]
    assert np.mean(differences) < MEAN_PIXEL_ERROR


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_the_models_own_spacing_is_sampled_with(
    spacing: str,
    tiny_model: Callable[[str], Path],
    diffusers_pipeline: Callable[[str], Any],
    tmp_path: Path,
) -> None:
    """timestep_spacing, steps_offset and prediction type are read from the model's own files."""
    folder = copy(tiny_model("sd2v"), tmp_path / "model")
    change(folder, "scheduler/scheduler_config.json", timestep_spacing=spacing)
    ours = sample(
        load_pipeline(str(folder), device="cpu", dtype="float32"),
        PROMPTS,
        [5, 6],
        GenerationConfig(steps=5, guidance=3.0),
    )
    pipe = diffusers_pipeline("sd2v")
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, timestep_spacing=spacing)
    noise = initial_noise(load_pipeline(str(folder), device="cpu"), [5, 6])
    theirs = pipe(
        PROMPTS, num_inference_steps=5, guidance_scale=3.0, latents=noise, output_type="latent"
    ).images
    latents = torch.stack([each.latents for each in ours])
    assert float((latents - theirs).abs().max()) <= 1e-4 * float(theirs.abs().max())
