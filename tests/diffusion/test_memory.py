"""What a model needs of memory, counted against networks that were really built."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from inpo_studio.diffusion.census import unet_units
from inpo_studio.diffusion.memory import (
    GIB,
    MARGIN,
    PRESETS,
    ModelNeeds,
    halved,
    plan,
    read_text_configs,
    text_parameters,
    vae_parameters,
)
from tests.tiny import KINDS

from .on_meta import build_unet, kept_bytes
from .real_configs import CLIP_BIG_G, CLIP_L, UNETS, VAE, configs

TEXTS = {"sd15": [CLIP_L], "sd2": [CLIP_L], "sdxl": [CLIP_L, CLIP_BIG_G]}
PUBLISHED = {"sd15": 859_520_964, "sd2": 865_910_724, "sdxl": 2_567_463_684}


def needs(name: str) -> ModelNeeds:
    return ModelNeeds.of(configs(name), TEXTS[name])


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_weights_are_those_of_the_published_models(name: str) -> None:
    side = UNETS[name]["sample_size"]
    units = unet_units(UNETS[name], side, side)
    assert sum(unit.parameters for unit in units) == PUBLISHED[name]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_those_of_a_network_that_was_built(
    kind: str, half: bool, tiny_model: Callable[[str], Path]
) -> None:
    read: dict[str, Any] = json.loads((tiny_model(kind) / "unet" / "config.json").read_text())
    config = {key: value for key, value in read.items() if not key.startswith("_")}
    unet = build_unet(config, half)
    units = unet_units(config, config["sample_size"], config["sample_size"])
    lora = sum(p.numel() for key, p in unet.named_parameters() if "lora_" in key)
    assert 8 * sum(unit.adapted for unit in units) == lora
    weights = sum(p.numel() for p in unet.parameters()) - lora
    assert sum(unit.parameters for unit in units) == weights
    expected = kept_bytes(unet, config, half)
    counted = sum(unit.kept_bytes(2 if half else 4) for unit in units)
    # In a very small network what is left out (LoRA's inner values) weighs more.
    assert counted == pytest.approx(expected, rel=0.25)


def test_sd15_is_counted_as_built() -> None:
    unet = build_unet(UNETS["sd15"], True)
    units = unet_units(UNETS["sd15"], 64, 64)
    counted = sum(unit.kept_bytes(2) for unit in units)
    assert counted == pytest.approx(kept_bytes(unet, UNETS["sd15"], True), rel=0.02)


def test_encoders_and_vae() -> None:
    from diffusers import AutoencoderKL

    assert text_parameters(CLIP_L) == 123_060_480
    assert text_parameters(CLIP_BIG_G) == 694_659_840
    with torch.device("meta"):
        vae = AutoencoderKL(
            **VAE,
            latent_channels=4,
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
        )
    built = sum(parameter.numel() for parameter in vae.parameters())
    assert vae_parameters(VAE) == pytest.approx(built, rel=0.05)


def test_text_encoders_of_a_folder(tiny_model: Callable[[str], Path]) -> None:
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    folder = tiny_model("sdxl")
    built = [
        CLIPTextModel.from_pretrained(folder / "text_encoder"),
        CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2"),
    ]
    found = [text_parameters(config) for config in read_text_configs(folder)]
    assert found == [sum(p.numel() for p in each.parameters()) for each in built]


@pytest.mark.parametrize("name", sorted(UNETS))
def test_every_preset_holds_what_it_plans(name: str) -> None:
    for budget in PRESETS.values():
        found = plan(needs(name), budget)
        assert found.trains
        assert found.training.total <= MARGIN * budget
        assert 8 % found.micro_batch_pairs == 0


def test_larger_cards_are_used() -> None:
    small, large = (plan(needs("sd15"), PRESETS[name]) for name in ("8 GB", "24 GB"))
    assert small.micro_batch_pairs < large.micro_batch_pairs == 8
    assert not small.gradient_checkpointing
    assert not large.gradient_checkpointing


def test_sdxl_on_twelve_gigabytes() -> None:
    found = plan(needs("sdxl"), PRESETS["12 GB"])
    assert found.gradient_checkpointing
    assert found.trains
    assert found.draws
    assert found.training.weights == 2 * PUBLISHED["sdxl"]
    assert not plan(needs("sdxl"), PRESETS["24 GB"]).gradient_checkpointing


def test_too_little_memory_is_one_sentence_with_the_way_out() -> None:
    found = plan(needs("sdxl"), 4 * GIB)
    assert not found.trains
    assert found.micro_batch_pairs == 1
    assert found.gradient_checkpointing
    assert "smaller pictures" in found.sentence
    assert found.sentence.count(". ") == 0
    tight = plan(needs("sdxl"), 8 * GIB)
    assert tight.trains
    assert not tight.draws
    assert "drawing pictures needs" in tight.sentence


def test_smaller_pictures_need_less() -> None:
    small = ModelNeeds.of(configs("sdxl"), TEXTS["sdxl"], (512, 512))
    assert plan(small, 10 * GIB).draws
    assert not plan(needs("sdxl"), 10 * GIB).draws
    assert small.training("bfloat16", 1, 8, gradient_checkpointing=False).activations < 4 * GIB


def test_halving_ends_at_one_pair() -> None:
    assert [halved(n, 8) for n in (8, 4, 2, 1)] == [4, 2, 1, None]
    assert halved(6, 6) == 3
    assert halved(5, 5) == 1
