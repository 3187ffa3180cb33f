"""The cells of the alignment benchmark: which there are, what configures one, what names it."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inpo_studio.configs import RoundConfig
from inpo_studio.inpo.objectives import OBJECTIVES
from inpo_studio.studio.align.planning import default_config
from tests.benchmarks.pool import GENERATION
from tests.benchmarks.tastes import CORE, with_opposites

# Fields that say nothing of what is learnt.
UNTOLD = {"sample_every", "sample_prompts", "checkpoint_every", "threads", "compiled", "seed"}

Grid = dict[str, Sequence[Any]]
Changes = dict[str, dict[str, str]]
"""Changed fields of the configuration by method; those of "" are for all."""

GRIDS: dict[str, list[Grid]] = {
    "core": [{"seeds": [0, 1, 2], "tastes": with_opposites(CORE)}],
    "few": [{"choices": [16, 32, 128], "tastes": with_opposites(CORE)}],
    "noise": [{"noise": [0.2], "tastes": with_opposites(CORE)}],
    "random": [
        {
            "seeds": [0, 1, 2],
            "choices": [16, 64],
            "tastes": with_opposites(["random", "random2"]),
            "methods": ["default"],
        }
    ],
    "methods": [
        {
            "methods": ["published", "ipo", "robust", "kto", "mapo"],
            "tastes": with_opposites(CORE),
        }
    ],
}
"""What each grid runs beside its defaults: one seed, 64 right choices, the default and
Diffusion-DPO."""
USUAL: Grid = {
    "seeds": [0],
    "tastes": ["warm", "-warm", "-bright", "colourful"],
    "choices": [64],
    "noise": [0.0],
    "methods": ["default", "diffusion_dpo"],
}


@dataclass(frozen=True)
class Cell:
    """One round on one taste."""

    taste: str
    seed: int
    choices: int
    noise: float
    method: str


def cells_of(grid: Grid) -> Iterator[Cell]:
    """The cells of a grid, seed by seed, methods beside each other."""
    full = {**USUAL, **grid}
    axes = (full[name] for name in ("seeds", "choices", "noise", "tastes", "methods"))
    for seed, choices, noise, taste, method in itertools.product(*axes):
        yield Cell(taste, seed, choices, noise, method)


def configuration(cell: Cell, clear: int, changes: Changes) -> RoundConfig:
    """What the studio would take for so many choices, made into the cell's method.

    ``changes`` are fields by method; those of "" are for all. Objectives are methods by name.
    """
    method: dict[str, Any] = {}
    if cell.method == "published":
        method = RoundConfig.published().model_dump(exclude_defaults=True)
        method |= {"lowest_timestep": 0, "most_displacement": 0.0}
    elif cell.method in OBJECTIVES:
        method = {"objective": cell.method}
    if cell.method == "robust":
        method["label_noise"] = cell.noise
    asked = {**changes.get("", {}), **changes.get(cell.method, {})}
    base = default_config(clear).model_dump()
    return RoundConfig.model_validate({**base, **method, **asked, "seed": cell.seed})


def cell_key(cell: Cell, prompts: int, variation: float, changes: Changes, fingerprint: str) -> str:
    """What makes a cell the same one: itself, its pairs, the model, and what is configured."""
    config = configuration(cell, cell.choices, changes).model_dump(exclude=UNTOLD)
    sampling = GENERATION.model_dump()
    facts = [asdict(cell), prompts, variation, config, sampling, fingerprint]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def read_cells(path: Path) -> list[dict[str, Any]]:
    """The finished cells; a line that a kill cut short is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def parse_changes(items: Sequence[str]) -> Changes:
    """``name=value`` for all methods, ``method:name=value`` for one."""
    changes: Changes = {}
    for item in items:
        name, value = item.split("=", 1)
        method, _, field = name.rpartition(":")
        changes.setdefault(method, {})[field] = value
    return changes
