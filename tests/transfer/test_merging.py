"""Merged models draw what the adapter draws, in every layout, without the adapter."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inpo_studio.configs import GenerationConfig
from inpo_studio.studio import Studio
from inpo_studio.studio.errors import StudioError
from inpo_studio.transfer.merging import merge
from inpo_studio.transfer.tensors import TensorFile
from tests.single_files import build_single_file, copy_configurations
from tests.tiny import KINDS

from .conftest import GENERATION, PROMPTS, SEEDS, Aligned, difference


def draw(model: Path) -> list[Image.Image]:
    from inpo_studio.diffusion.loading import load_pipeline
    from inpo_studio.diffusion.sampling import sample

    pipeline = load_pipeline(str(model), device="cpu", dtype="float32")
    return [drawn.image for drawn in sample(pipeline, PROMPTS, SEEDS, GENERATION)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", ["attention", "attention_and_convolutions"])
def test_a_merged_model_needs_no_adapter(
    layers: str, kind: str, studio: Studio, align: Callable[..., Aligned], tmp_path: Path
) -> None:
    made = align(kind, layers=layers)
    folder, file = tmp_path / "folder", tmp_path / "file.safetensors"
    merge(studio, made.round, folder)
    assert difference(made.aligned, draw(folder)) <= 1
    merge(studio, made.round, file)
    copy_configurations(made.model, tmp_path / "file")
    assert difference(made.aligned, draw(file)) <= 1
    merge(studio, made.round, tmp_path / "none", scale=0.0)
    assert difference(made.base, draw(tmp_path / "none")) == 0


def as_fetched(model: Path, folder: Path) -> Path:
    """A copy whose index names parts that are not there, as the studio fetches SD 1.5."""
    shutil.copytree(model, folder)
    index = json.loads((folder / "model_index.json").read_text())
    index |= {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "requires_safety_checker": True,
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def test_parts_that_were_not_fetched_are_missed_by_nobody(
    studio: Studio, align: Callable[..., Aligned], tiny_model: Any, tmp_path: Path
) -> None:
    import torch
    from diffusers import StableDiffusionPipeline

    from inpo_studio.diffusion.plain import PlainPipeline

    model = as_fetched(tiny_model("sd15"), tmp_path / "model")
    made = align("sd15", model=model)
    plain = PlainPipeline(str(model), torch.device("cpu"))
    assert difference(made.base, plain.draw(PROMPTS, SEEDS, whole(made.base))) <= 1
    merge(studio, made.round, tmp_path / "merged")
    assert StableDiffusionPipeline.from_pretrained(tmp_path / "merged").safety_checker is None
    assert difference(made.aligned, draw(tmp_path / "merged")) <= 1


def whole(pictures: list[Image.Image]) -> GenerationConfig:
    """How `pictures` were drawn, with their size."""
    width, height = pictures[0].size
    return GENERATION.model_copy(update={"width": width, "height": height})


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_a_single_file_is_merged_into_a_single_file(
    kind: str, studio: Studio, align: Callable[..., Aligned], tiny_model: Any, tmp_path: Path
) -> None:
    model = build_single_file(tiny_model(kind), tmp_path / "model.safetensors")
    made = align(kind, model=model)
    merged = tmp_path / "merged.safetensors"
    merge(studio, made.round, merged)
    copy_configurations(tiny_model(kind), tmp_path / "merged")
    assert difference(made.aligned, draw(merged)) <= 1
    before, after = TensorFile(model), TensorFile(merged)
    assert list(before) == list(after)
    assert after.metadata["modelspec.architecture"].startswith("stable-diffusion")
    changed = [
        name for name in before if not np.array_equal(before.floats(name), after.floats(name))
    ]
    assert changed
    assert all(".attn" in name and name.startswith("model.diffusion_model.") for name in changed)


def test_what_does_not_fit_is_refused(
    studio: Studio, align: Callable[..., Aligned], tiny_model: Any, tmp_path: Path
) -> None:
    model = build_single_file(tiny_model("sd15"), tmp_path / "model.safetensors")
    made = align("sd15", model=model)
    with pytest.raises(StudioError, match="single file"):
        merge(studio, made.round, tmp_path / "folder")
    with pytest.raises(StudioError, match="already"):
        merge(studio, made.round, model)
    model.unlink()
    build_single_file(tiny_model("sdxl"), model, configurations=False)
    with pytest.raises(StudioError):
        merge(studio, made.round, tmp_path / "new.safetensors")
    assert not (tmp_path / "new.safetensors").exists()
