"""A workspace on SQLite, kinds of job that need no model, and a stand-in for the painter."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from inpo_studio.configs import GenerationConfig
from inpo_studio.jobs.context import JobContext
from inpo_studio.settings import Settings
from inpo_studio.studio import Studio
from storage.rounds import create_round
from storage.schema import Round
from tests.labelled import add_chosen_pairs

MODEL = "postcards"
GENERATION = GenerationConfig.model_validate({"steps": 2, "batch_size": 4})


def settings_in(folder: Path) -> Settings:
    return Settings(workspace=folder, device="cpu", threads=1)


def add(context: JobContext, payload: dict[str, Any]) -> dict[str, int]:
    return {"sum": payload["a"] + payload["b"]}


def count_up(context: JobContext, payload: dict[str, Any]) -> dict[str, int]:
    """Goes on from where it was; `items` items of `item_s` seconds."""
    for done in range(context.done_so_far(), payload["items"]):
        context.checkpoint()
        time.sleep(payload["item_s"])
        context.progress(done + 1, payload["items"])
    return {"items": payload["items"]}


def wait_for(condition: Any, timeout_s: float = 10.0, what: str = "it") -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} has not happened within {timeout_s} s"
        time.sleep(0.02)


@dataclass(frozen=True)
class Drawn:
    """What the stand-in for sampling gives: a picture and latents that are a function of it."""

    image: Image.Image
    latents: Any


def fake_paint(painter: Any, prompts: Sequence[str], seeds: Sequence[int]) -> list[Drawn]:
    drawn = []
    for prompt, seed in zip(prompts, seeds, strict=True):
        painter.context.checkpoint()
        text = f"{prompt}|{seed}|{painter.adapter_id}|{painter.scale}"
        digest = hashlib.sha256(text.encode()).digest()
        numbers = np.frombuffer(digest[:16], dtype=np.uint8).astype(np.float32).reshape(1, 4, 4)
        latents = SimpleNamespace(numpy=lambda numbers=numbers: numbers)
        drawn.append(Drawn(Image.new("RGB", painter.size, tuple(digest[:3])), latents))
    return drawn


def fake_pipeline(self: Any, model: str) -> Any:
    return SimpleNamespace(model=model, size=(16, 16))


def with_choices(studio: Studio, count: int = 4) -> Round:
    """Some pairs that were chosen on, and a queued round of them."""
    add_chosen_pairs(studio, count, model=MODEL)
    with studio.database.write() as session:
        made = create_round(session, model=MODEL, config={}, seed=0, total_steps=10)
        made.job_id = f"round-{made.id}-1"
    return made
