"""Exported adapters load elsewhere and draw the same pictures there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inpo_studio.studio import Studio
from inpo_studio.transfer.export_adapter import export_adapter
from tests.tiny import KINDS

from .conftest import RANK, Aligned, difference, draw_with_diffusers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("alpha", "layers"),
    [(1.0, "attention"), (8.0, "attention"), (8.0, "attention_and_convolutions")],
)
def test_every_form_draws_the_same_pictures_in_plain_diffusers(
    kind: str,
    alpha: float,
    layers: str,
    studio: Studio,
    align: Callable[..., Aligned],
    diffusers_pipeline: Callable[[str], Any],
    tmp_path: Path,
) -> None:
    from peft import PeftModel

    assert alpha != RANK
    made = align(kind, alpha=alpha, layers=layers)
    assert difference(made.base, made.aligned) > 8
    folder = tmp_path / "out"
    export_adapter(studio, made.round, folder)
    kohya = f"{kind}-round-1.safetensors"
    for file in ("pytorch_lora_weights.safetensors", kohya):
        pipe = diffusers_pipeline(kind)
        pipe.load_lora_weights(folder, weight_name=file)
        assert difference(made.aligned, draw_with_diffusers(pipe)) <= 1, file
    pipe = diffusers_pipeline(kind)
    pipe.unet = PeftModel.from_pretrained(pipe.unet, folder)
    assert difference(made.aligned, draw_with_diffusers(pipe)) <= 1


def test_the_scale_is_right_even_for_readers_that_overlook_metadata(
    studio: Studio,
    align: Callable[..., Aligned],
    diffusers_pipeline: Callable[[str], Any],
    tmp_path: Path,
) -> None:
    from safetensors.torch import load_file

    made = align("sd15", alpha=8.0)
    export_adapter(studio, made.round, tmp_path / "lora.safetensors", "diffusers")
    pipe = diffusers_pipeline("sd15")
    pipe.load_lora_weights(load_file(tmp_path / "lora.safetensors"))
    assert difference(made.aligned, draw_with_diffusers(pipe)) <= 1


def test_the_folder_as_a_whole_loads(
    studio: Studio,
    align: Callable[..., Aligned],
    diffusers_pipeline: Callable[[str], Any],
    tmp_path: Path,
) -> None:
    """As a repository on a hub is loaded, without the name of a file."""
    made = align("sdxl", alpha=2.0)
    export_adapter(studio, made.round, tmp_path / "out")
    pipe = diffusers_pipeline("sdxl")
    pipe.load_lora_weights(tmp_path / "out")
    assert difference(made.aligned, draw_with_diffusers(pipe)) <= 1
