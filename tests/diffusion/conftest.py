"""Loaded tiny pipelines, and diffusers' own pipelines of the same folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inpo_studio.diffusion.loading import Pipeline, load_pipeline
from tests.tiny import KINDS


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pipeline(kind: str, tiny_model: Callable[[str], Path]) -> Pipeline:
    """A fresh float32 pipeline of each kind on the CPU."""
    return load_pipeline(str(tiny_model(kind)), device="cpu", dtype="float32")


@pytest.fixture
def sd15(tiny_model: Callable[[str], Path]) -> Pipeline:
    return load_pipeline(str(tiny_model("sd15")), device="cpu", dtype="float32")


@pytest.fixture
def diffusers_pipeline(tiny_model: Callable[[str], Path]) -> Callable[[str], Any]:
    """diffusers_pipeline(kind): the same model as plain diffusers loads it, sampling by DDIM."""

    def load(kind: str) -> Any:
        from diffusers import (
            DDIMScheduler,
            StableDiffusionPipeline,
            StableDiffusionXLPipeline,
        )

        if kind == "sdxl":
            pipe = StableDiffusionXLPipeline.from_pretrained(
                tiny_model(kind), add_watermarker=False
            )
        else:
            pipe = StableDiffusionPipeline.from_pretrained(tiny_model(kind), safety_checker=None)
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return load
