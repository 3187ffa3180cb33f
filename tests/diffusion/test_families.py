from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inpo_studio.diffusion.families import (
    ModelConfigs,
    UnsupportedModel,
    default_size,
    read_configs,
    recognise,
)


@pytest.mark.parametrize(("kind", "family"), [("sd15", "sd"), ("sd2v", "sd2"), ("sdxl", "sdxl")])
def test_families_are_recognised(kind: str, family: str, tiny_model: Callable[[str], Path]) -> None:
    assert recognise(tiny_model(kind)).name == family
    assert default_size(read_configs(tiny_model(kind))) == (64, 64)


def _changed(configs: ModelConfigs, part: str, **values: Any) -> ModelConfigs:
    return dataclasses.replace(configs, **{part: {**getattr(configs, part), **values}})


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("unet", {"in_channels": 9}, "inpainting"),
        ("unet", {"time_cond_proj_dim": 256}, "distilled"),
        ("unet", {"_class_name": "SD3Transformer2DModel"}, "denoiser"),
        ("vae", {"_class_name": "AutoencoderTiny"}, "autoencoder"),
        ("unet", {"addition_embed_type": "image"}, "refiners"),
        ("scheduler", {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "DDIM"),
        ("scheduler", {"_class_name": "EDMEulerScheduler"}, "DDIM"),
    ],
)
def test_other_models_are_refused_in_one_sentence(
    part: str, values: dict[str, Any], message: str, tiny_model: Callable[[str], Path]
) -> None:
    configs = read_configs(tiny_model("sd15"))
    with pytest.raises(UnsupportedModel, match=message) as refusal:
        recognise(_changed(configs, part, **values))
    assert str(refusal.value).endswith(".")


def test_a_refiner_is_refused(tiny_model: Callable[[str], Path]) -> None:
    configs = _changed(read_configs(tiny_model("sdxl")), "index", text_encoder=[None, None])
    with pytest.raises(UnsupportedModel, match="refiners"):
        recognise(configs)


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"model_index\.json is missing"):
        recognise(tmp_path)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(UnsupportedModel, match="not valid JSON"):
        recognise(tmp_path)
