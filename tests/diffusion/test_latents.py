from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from inpo_studio.diffusion.latents import (
    decode_latents,
    encode_images,
    initial_noise,
    latent_shape,
)
from inpo_studio.diffusion.loading import Pipeline
from inpo_studio.seeds import Variation


def _pictures(n: int, size: tuple[int, int] = (64, 64)) -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [
        Image.fromarray(draw.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
        for _ in range(n)
    ]


def test_latents_have_the_models_shape(pipeline: Pipeline) -> None:
    assert latent_shape(pipeline) == (4, 8, 8)
    assert latent_shape(pipeline, 32, 48) == (4, 6, 4)
    with pytest.raises(ValueError, match="multiple of 8"):
        latent_shape(pipeline, 36, 64)


def test_noise_depends_on_the_seed_alone(sd15: Pipeline) -> None:
    together = initial_noise(sd15, [3, 2**40 + 1])
    assert torch.equal(together[1:], initial_noise(sd15, [2**40 + 1]))
    assert not torch.equal(together[0], together[1])


def test_a_variation_lies_between_the_noise_of_its_seeds(sd15: Pipeline) -> None:
    first, second = initial_noise(sd15, [3, 4])
    angles = (0.0, 0.25, 0.5, 1.0)
    varied = initial_noise(sd15, [Variation(3, 4, strength) for strength in angles])
    assert torch.equal(varied[0], first)
    torch.testing.assert_close(varied[1], 0.92388 * first + 0.38268 * second)
    torch.testing.assert_close(varied[2], (first + second) / 2**0.5)
    torch.testing.assert_close(varied[3], second)
    many = initial_noise(sd15, [Variation(2 * i, 2 * i + 1, 0.5) for i in range(100)])
    assert float(many.std()) == pytest.approx(1.0, abs=0.02), "it is noise like any other"


def test_coding_is_that_of_diffusers(
    kind: str, pipeline: Pipeline, diffusers_pipeline: Callable[[str], Any]
) -> None:
    pipe, pictures = diffusers_pipeline(kind), _pictures(2)
    pixels = pipe.image_processor.preprocess(pictures)
    with torch.no_grad():
        expected = pipe.vae.encode(pixels).latent_dist.mode() * pipe.vae.config.scaling_factor
        decoded = pipe.vae.decode(expected / pipe.vae.config.scaling_factor).sample
    latents = encode_images(pipeline, pictures)
    assert torch.allclose(latents, expected, atol=1e-5)
    theirs = pipe.image_processor.postprocess(decoded, output_type="pil")
    for ours, other in zip(decode_latents(pipeline, latents), theirs, strict=True):
        difference = np.abs(np.asarray(ours).astype(int) - np.asarray(other).astype(int))
        assert difference.max() <= 1


def test_many_pictures_are_coded_in_parts(sd15: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encode_images(sd15, _pictures(3))
    monkeypatch.setattr("inpo_studio.diffusion.latents._PIXELS_AT_ONCE", 64 * 64)
    assert torch.allclose(encode_images(sd15, _pictures(3)), whole, atol=1e-5)
    assert len(decode_latents(sd15, whole)) == 3


def test_bad_pictures_are_refused(sd15: Pipeline) -> None:
    with pytest.raises(ValueError, match="one size"):
        encode_images(sd15, _pictures(1) + _pictures(1, (32, 32)))
    with pytest.raises(ValueError, match="multiple"):
        encode_images(sd15, _pictures(1, (60, 60)))


def test_a_picture_of_nan_is_an_error_not_black(sd15: Pipeline) -> None:
    with pytest.raises(FloatingPointError):
        decode_latents(sd15, torch.full((1, 4, 8, 8), float("nan")))
