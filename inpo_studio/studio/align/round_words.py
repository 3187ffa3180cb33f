"""Rounds in plain words: states, stages, settings, spans of time. Nothing here reads anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from storage.schema import RoundStage, RoundState

Tone = Literal["idle", "busy", "good", "warn", "bad"]

STATES: Mapping[RoundState, tuple[str, Tone]] = {
    "queued": ("waiting", "busy"),
    "running": ("training", "busy"),
    "pausing": ("pausing", "warn"),
    "paused": ("paused", "warn"),
    "cancelling": ("cancelling", "warn"),
    "cancelled": ("cancelled", "idle"),
    "finishing": ("finishing", "busy"),
    "done": ("done", "good"),
    "failed": ("failed", "bad"),
}
"""What the chip of a state says, and its colour."""

STAGES: Mapping[RoundStage, str] = {
    "freeze": "Setting your choices aside, so that later clicks do not change this round, and "
    "starting the training",
    "cache": "Loading the model and tracing every chosen picture back to its noise, once",
    "train": "Training: each step makes your picks a little likelier than the others",
    "render": "Drawing held-out prompts with both models, for Compare",
    "score": "Scoring the pictures",
}

WISHES: Mapping[RoundState, str] = {
    "queued": "Waiting for the worker, which takes one thing at a time",
    "pausing": "Pausing after this step",
    "paused": "Paused; nothing is lost, and it goes on where it stopped",
    "cancelling": "Stopping for good",
    "cancelled": "Cancelled; what it learnt was dropped",
    "finishing": "Finishing now: what it has learnt is kept",
    "failed": "",
}
"""What a state that is not at work, or not for long, says in place of its stage."""

SETTINGS: Mapping[str, str] = {
    "objective": "Objective",
    "steps": "Steps",
    "beta": "Beta",
    "label_noise": "Wrong clicks",
    "winner_safeguard": "Safeguard of winners",
    "safeguard_strength": "Its strength",
    "frequency_cutoff": "Frequency cutoff",
    "sigma_power": "Power of sigma",
    "most_displacement": "Displacement at most",
    "learning_rate": "Learning rate",
    "adapted_layers": "Adapted layers",
    "rank": "Rank",
    "alpha": "Alpha",
    "batch_pairs": "Pairs a step",
    "warmup_steps": "Warm-up steps",
    "learning_rate_decay": "Its decay",
    "micro_batch_pairs": "Pairs a pass",
    "levels": "Noise levels",
    "lowest_timestep": "Lowest timestep",
    "highest_timestep": "Highest timestep",
    "noise": "Noise",
    "inversion_by": "Inversion by",
    "inversion_eta": "Inversion eta",
    "timesteps": "Timesteps",
    "lora_dropout": "Adapter dropout",
    "early_stop": "Checks until an early stop",
    "noise_sharing": "Noise sharing",
    "noise_mixing": "Fresh noise mixed in",
    "prompt_dropout": "Prompt dropout",
    "weight_decay": "Weight decay",
    "gradient_clip": "Gradient clip",
    "weight_averaging": "Weight averaging",
    "validate_every": "Steps between checks",
    "checkpoint_every": "Steps between checkpoints",
    "sample_every": "Steps between samples",
    "sample_prompts": "Sampled prompts",
    "seed": "Seed",
    "dtype": "Arithmetic",
    "threads": "Threads",
    "compiled": "Compiled",
}
"""Names of settings on the page; one that is not here keeps its own."""

OBJECTIVES: Mapping[str, tuple[str, str]] = {
    "inpo": (
        "DDIM-InPO",
        "Compares your pick with the other picture at the noise they really came from.",
    ),
    "diffusion_dpo": (
        "Diffusion-DPO",
        "Compares the two pictures at random noise: the classic, which needs more steps and pairs.",
    ),
    "ipo": (
        "IPO",
        "Like DDIM-InPO, but aims at a fixed margin and stops pushing there.",
    ),
    "robust": (
        "Robust DPO",
        "Like DDIM-InPO, but reckons with wrong clicks; say below what share of them there is.",
    ),
    "kto": (
        "KTO",
        "Judges each picture by itself, wanted or not, instead of one against the other.",
    ),
    "mapo": (
        "MaPO",
        "Does without the starting model: compares the two pictures, and keeps to your picks.",
    ),
}
"""Name and one plain sentence of each objective."""


def chip(state: RoundState, stage: RoundStage | None) -> tuple[str, Tone]:
    """Return what the chip of a round says, and its colour."""
    if state == "running" and stage in ("render", "score"):
        return "drawing", "busy"
    if state == "running" and stage != "train":
        return "preparing", "busy"
    return STATES[state]


def some(count: int, one: str, many: str) -> str:
    """Return a count with its noun."""
    return f"{count} {one if count == 1 else many}"


def span(seconds: float) -> str:
    """Return a span of time as a person says it: `40 s`, `3 min`, `1 h 20 min`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def about(seconds: float) -> str:
    """Return an estimate no finer than it is: `about 50 s`, `about 3 min`."""
    if seconds < 10:
        return "a few seconds"
    return "about " + span(10 * round(seconds / 10) if seconds < 90 else seconds)


def value_text(name: str, value: Any) -> str:
    """Return a setting's value as text."""
    if name == "objective":
        return OBJECTIVES[str(value)][0] if str(value) in OBJECTIVES else str(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).replace("_", " ")


def share(value: float) -> str:
    """Return a share between 0 and 1 as per cent."""
    return f"{100 * value:.0f} %"
