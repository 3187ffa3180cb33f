from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from inpo_studio.diffusion.adapters import activate, adapter_parameters, attach_adapter
from inpo_studio.diffusion.conditioning import (
    Conditioning,
    empty_conditioning,
    encode_prompts,
    predict_noise,
)
from inpo_studio.diffusion.latents import initial_noise
from inpo_studio.diffusion.loading import Pipeline, load_pipeline
from inpo_studio.inpo.schedule import noise_from_prediction

PROMPTS = ["a red house", "two boats by the sea at night, and many words beyond the limit"]


def test_prompts_are_encoded_as_diffusers_does(
    kind: str, pipeline: Pipeline, diffusers_pipeline: Callable[[str], Any]
) -> None:
    pipe = diffusers_pipeline(kind)
    ours, empty = encode_prompts(pipeline, PROMPTS), empty_conditioning(pipeline, 2)
    with torch.no_grad():
        theirs = pipe.encode_prompt(
            PROMPTS, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True
        )
    assert torch.allclose(ours.embeddings, theirs[0], atol=1e-6)
    assert torch.allclose(empty.embeddings, theirs[1], atol=1e-6)
    assert set(ours.added) == ({"text_embeds", "time_ids"} if kind == "sdxl" else set())
    if kind == "sdxl":
        assert torch.allclose(ours.added["text_embeds"], theirs[2], atol=1e-6)
        assert torch.allclose(empty.added["text_embeds"], theirs[3], atol=1e-6)
        assert ours.added["time_ids"].tolist() == [[64, 64, 0, 0, 64, 64]] * 2
        sized = encode_prompts(pipeline, PROMPTS[:1], (32, 48))
        assert sized.added["time_ids"].tolist() == [[48, 32, 0, 0, 48, 32]]


def test_the_empty_prompt_is_zeros_only_where_the_model_says_so(
    tiny_model: Callable[[str], Path],
) -> None:
    pipeline = load_pipeline(str(tiny_model("sdxl")), device="cpu", dtype="float32")
    assert not empty_conditioning(pipeline, 1).embeddings.any()
    pipeline.configs.index["force_zeros_for_empty_prompt"] = False  # type: ignore[index]
    empty = empty_conditioning(pipeline, 1)
    assert torch.equal(empty.embeddings, encode_prompts(pipeline, [""]).embeddings)


def test_rows_are_taken_and_joined(pipeline: Pipeline) -> None:
    both = encode_prompts(pipeline, PROMPTS)
    swapped = both.take(torch.tensor([1, 0, 1]))
    assert len(swapped) == 3
    assert torch.equal(swapped.embeddings[1], both.embeddings[0])
    again = Conditioning.cat([both.take([0]), both.take([1])]).to("cpu")
    assert torch.equal(again.embeddings, both.embeddings)
    assert all(torch.equal(again.added[key], both.added[key]) for key in both.added)


def test_predicted_noise_is_float32_and_like_the_networks_own(pipeline: Pipeline) -> None:
    x_t, timesteps = initial_noise(pipeline, [0, 1]), torch.tensor([1, 901])
    conditioning = encode_prompts(pipeline, PROMPTS)
    noise = predict_noise(pipeline, x_t, timesteps, conditioning)
    raw = pipeline.unet(
        x_t, timesteps, conditioning.embeddings, added_cond_kwargs=conditioning.added
    ).sample
    expected = noise_from_prediction(
        raw, x_t, pipeline.schedule.at(timesteps), pipeline.schedule.prediction_type
    )
    assert noise.dtype == torch.float32
    assert torch.allclose(noise, expected, atol=1e-6)
    assert torch.equal(noise, expected) or pipeline.schedule.prediction_type == "v_prediction"


def test_bfloat16_is_close_and_returns_float32(pipeline: Pipeline) -> None:
    x_t, timesteps = initial_noise(pipeline, [0, 1]), torch.tensor([1, 901])
    conditioning = encode_prompts(pipeline, PROMPTS)
    exact = predict_noise(pipeline, x_t, timesteps, conditioning)
    pipeline.dtype = torch.bfloat16
    rough = predict_noise(pipeline, x_t, timesteps, conditioning)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert float((rough - exact).abs().max()) < 0.1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        nested = predict_noise(pipeline, x_t, timesteps, conditioning)
    assert torch.equal(nested, rough)


def test_loading_in_bfloat16_is_autocast(kind: str, tiny_model: Callable[[str], Path]) -> None:
    """Weights kept in bfloat16 give to the bit what casting them at every forward gives."""
    exact, rough = (
        load_pipeline(str(tiny_model(kind)), device="cpu", dtype=dtype)
        for dtype in ("float32", "bfloat16")
    )
    exact.dtype = torch.bfloat16
    x_t, timesteps = initial_noise(exact, [0, 1]), torch.tensor([1, 901])
    conditioning = encode_prompts(exact, PROMPTS)
    assert torch.equal(
        predict_noise(exact, x_t, timesteps, conditioning),
        predict_noise(rough, x_t, timesteps, conditioning),
    )
    attach_adapter(rough.unet, "policy", 2, 2.0, 0)
    activate(rough.unet, ["policy"])
    predict_noise(rough, x_t, timesteps, conditioning).square().mean().backward()
    for _, parameter in adapter_parameters(rough.unet, "policy"):
        assert parameter.dtype == parameter.grad.dtype == torch.float32


def test_a_batch_is_its_images_one_by_one(pipeline: Pipeline) -> None:
    x_t, timesteps = initial_noise(pipeline, [0, 1]), torch.tensor([101, 901])
    conditioning = encode_prompts(pipeline, PROMPTS)
    whole = predict_noise(pipeline, x_t, timesteps, conditioning)
    for i in range(2):
        one = slice(i, i + 1)
        alone = predict_noise(pipeline, x_t[one], timesteps[one], conditioning.take([i]))
        assert torch.allclose(whole[one], alone, atol=1e-5)


def test_mismatched_batches_are_refused(sd15: Pipeline) -> None:
    conditioning = encode_prompts(sd15, PROMPTS)
    with pytest.raises(ValueError, match="one of each per image"):
        predict_noise(sd15, initial_noise(sd15, [0, 1]), torch.tensor([1]), conditioning)
