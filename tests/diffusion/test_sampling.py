from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from inpo_studio.configs import GenerationConfig
from inpo_studio.diffusion.adapters import (
    adapter_parameters,
    attach_adapter,
    remove_adapter,
    using,
)
from inpo_studio.diffusion.conditioning import (
    empty_conditioning,
    encode_prompts,
    predict_noise,
)
from inpo_studio.diffusion.latents import decode_latents, initial_noise
from inpo_studio.diffusion.loading import Pipeline
from inpo_studio.diffusion.sampling import ddim_timesteps, sample
from inpo_studio.inpo.schedule import ddim_step

PROMPTS, SEEDS = ["a red house", "two boats"], [5, 6]
FEW = GenerationConfig(steps=4, guidance=3.0)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("negative_prompt", ["", "dull"])
def test_pictures_are_those_of_diffusers(
    kind: str,
    guidance: float,
    negative_prompt: str,
    pipeline: Pipeline,
    diffusers_pipeline: Callable[[str], Any],
) -> None:
    generation = GenerationConfig(steps=5, guidance=guidance, negative_prompt=negative_prompt)
    ours = sample(pipeline, PROMPTS, SEEDS, generation)
    theirs = diffusers_pipeline(kind)(
        PROMPTS,
        negative_prompt=[negative_prompt] * 2 if negative_prompt else None,
        num_inference_steps=5,
        guidance_scale=guidance,
        latents=initial_noise(pipeline, SEEDS),
        output_type="latent",
    ).images
    latents = torch.stack([each.latents for each in ours])
    assert float((latents - theirs).abs().max()) <= 1e-4 * float(theirs.abs().max())


@pytest.mark.parametrize("adapter_on", ["prompt", "both"])
def test_an_adapter_is_on_the_prompt_alone_or_on_both(adapter_on: Any, sd15: Pipeline) -> None:
    attach_adapter(sd15.unet, "a", 2, 2.0, seed=1)
    with torch.no_grad():
        for name, parameter in adapter_parameters(sd15.unet, "a"):
            if "lora_B" in name:
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(3))
    noise, ((now, then),) = initial_noise(sd15, SEEDS), ddim_timesteps(sd15.scheduler_config, 1)

    @torch.no_grad()
    def predicted(told: Any, adapters: list[str]) -> torch.Tensor:
        with using(sd15.unet, adapters):
            return predict_noise(sd15, noise, torch.full((2,), now), told)

    without = predicted(empty_conditioning(sd15, 2), ["a"] if adapter_on == "both" else [])
    with_prompt = predicted(encode_prompts(sd15, PROMPTS), ["a"])
    final = torch.tensor(sd15.schedule.final_alpha_bar, dtype=torch.float64)
    expected = ddim_step(noise, without + 3 * (with_prompt - without), sd15.schedule.at(now), final)
    generation = GenerationConfig(steps=1, guidance=3.0, adapter_on=adapter_on)
    with using(sd15.unet, ["a"]):
        made = torch.stack([one.latents for one in sample(sd15, PROMPTS, SEEDS, generation)])
    plain = torch.stack([one.latents for one in sample(sd15, PROMPTS, SEEDS, generation)])
    remove_adapter(sd15.unet, "a")
    assert then < 0
    assert torch.allclose(made, expected.float(), atol=1e-5)
    assert float((made - plain).abs().max()) > 1e-3


def test_an_adapter_at_nothing_draws_the_base_models_bytes(sd15: Pipeline) -> None:
    attach_adapter(sd15.unet, "a", 2, 2.0, seed=1)
    with using(sd15.unet, ["a"]):
        aligned = sample(sd15, PROMPTS, SEEDS, FEW)
    remove_adapter(sd15.unet, "a")
    for one, other in zip(aligned, sample(sd15, PROMPTS, SEEDS, FEW), strict=True):
        assert torch.equal(one.latents, other.latents)


def test_after_an_interruption_an_adapter_acts_as_before(sd15: Pipeline) -> None:
    def stop(done: int, all_: int) -> None:
        raise InterruptedError

    attach_adapter(sd15.unet, "a", 2, 2.0, seed=1)
    with using(sd15.unet, ["a"]):
        with pytest.raises(InterruptedError):
            sample(sd15, PROMPTS, SEEDS, FEW, on_step=stop)
        left = [m for m in sd15.unet.modules() if m._forward_hooks]
    remove_adapter(sd15.unet, "a")
    assert not left


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 3, 7, 20, 50, 999])
@pytest.mark.parametrize("to_one", [True, False])
def test_steps_are_spaced_as_in_diffusers(spacing: str, steps: int, to_one: bool) -> None:
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler(timestep_spacing=spacing, steps_offset=1, set_alpha_to_one=to_one)
    theirs.set_timesteps(steps)
    ours = ddim_timesteps(theirs.config, steps)
    assert [now for now, _ in ours] == theirs.timesteps.tolist()
    assert all(then == now - 1000 // steps for now, then in ours)


def test_too_many_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        ddim_timesteps({"steps_offset": 1}, 1000)
    with pytest.raises(ValueError, match="do not fit"):
        ddim_timesteps({}, 1001)


def test_a_picture_does_not_depend_on_its_batch(pipeline: Pipeline) -> None:
    prompts, seeds = [*PROMPTS, "a red house"], [5, 6, 7]
    whole = sample(pipeline, prompts, seeds, FEW)
    parts = sample(pipeline, prompts, seeds, FEW.model_copy(update={"batch_size": 2}))
    alone = sample(pipeline, prompts[2:], seeds[2:], FEW)
    for one, other in [*zip(whole, parts, strict=True), (whole[2], alone[0])]:
        assert torch.allclose(one.latents, other.latents, atol=1e-4)


def test_samples_carry_the_latents_they_show(sd15: Pipeline) -> None:
    made = sample(sd15, PROMPTS, SEEDS, FEW.model_copy(update={"width": 32, "height": 48}))
    assert made[0].image.size == (32, 48)
    assert made[0].latents.shape == (4, 6, 4)
    assert made[0].latents.dtype == torch.float32
    again = decode_latents(sd15, made[1].latents[None])[0]
    assert np.abs(np.asarray(again).astype(int) - np.asarray(made[1].image).astype(int)).max() <= 1


def test_progress_counts_all_batches_and_can_stop(sd15: Pipeline) -> None:
    seen: list[tuple[int, int]] = []
    one_at_a_time = FEW.model_copy(update={"batch_size": 1})
    sample(
        sd15, PROMPTS, SEEDS, one_at_a_time, on_step=lambda done, all_: seen.append((done, all_))
    )
    assert seen == [(i, 8) for i in range(1, 9)]

    def stop(done: int, all_: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        sample(sd15, PROMPTS, SEEDS, FEW, on_step=stop)


def test_nothing_asked_is_nothing_made(sd15: Pipeline) -> None:
    assert sample(sd15, [], [], FEW) == []
    with pytest.raises(ValueError, match="one each"):
        sample(sd15, PROMPTS, [1], FEW)


def test_where_memory_runs_out_fewer_are_drawn_together(
    sd15: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inpo_studio.diffusion import sampling

    prompts, seeds = ["a house"] * 5, list(range(5))
    expected = sample(sd15, prompts, seeds, FEW)
    denoise, sizes = sampling.denoise, []

    def limited(pipeline: Pipeline, x: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        sizes.append(len(x))
        if len(x) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return denoise(pipeline, x, *rest, **more)

    monkeypatch.setattr(sampling, "denoise", limited)
    most = 2
    seen: list[tuple[int, int]] = []
    made = sample(sd15, prompts, seeds, FEW, on_step=lambda done, all_: seen.append((done, all_)))
    assert sizes == [5, 2, 2, 1]
    for one, other in zip(made, expected, strict=True):
        assert torch.allclose(one.latents, other.latents, atol=1e-4)
    assert seen[-1] == (12, 12)
    most = 0
    with pytest.raises(sampling.OutOfMemory, match="Not even one picture"):
        sample(sd15, prompts, seeds, FEW)


def test_other_errors_are_not_taken_for_want_of_memory(
    sd15: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inpo_studio.diffusion import sampling

    def fail(*_: Any, **__: Any) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(sampling, "denoise", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        sample(sd15, PROMPTS, SEEDS, FEW)
