"""How well a round learns a simulated taste from few choices, on unseen prompts at equal seeds.

    python -m tests.benchmarks.alignment --out DIR --grid core
    python -m tests.benchmarks.alignment --out DIR --tastes warm,-warm --set steps=60
    python -m tests.benchmarks.alignment --out DIR --report

A cell is one taste, seed, number of choices, share of wrong labels and method. Each is one line of
``DIR/cells.jsonl``, written when it is done; cells that are there are not run again, so that a
stopped run goes on where it was. The base's pictures and the inversions are made once in ``DIR``
and shared. The table and the plot (``DIR/alignment.svg``) are written at the end of every run.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion.adapters import remove_adapter, using
from inpo_studio.diffusion.loading import Pipeline, load_pipeline
from inpo_studio.inpo.objectives import OBJECTIVES
from inpo_studio.studio.align.planning import default_config
from inpo_studio.training.dataset import TrainingData, collate
from inpo_studio.training.forwards import count_forwards
from inpo_studio.training.loop import StepRecord, Trainer
from inpo_studio.training.policy import POLICY, Policy
from inpo_studio.training.prepare import build_batches, condition
from tests.benchmarks.alignment_report import report
from tests.benchmarks.judging import judge
from tests.benchmarks.pool import GENERATION, label, pictures, training_pictures, unseen_pictures
from tests.benchmarks.tastes import CORE, with_opposites

# Fields that say nothing of what is learnt.
UNTOLD = {"sample_every", "sample_prompts", "checkpoint_every", "threads", "compiled", "seed"}

Grid = dict[str, Sequence[Any]]
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


def configuration(cell: Cell, clear: int, changes: dict[str, dict[str, str]]) -> RoundConfig:
    """What the studio would take for so many choices, made into the cell's method.

    ``changes`` are fields by method; those of "" are for all. Objectives are methods by name.
    """
    method: dict[str, Any] = {}
    if cell.method == "published":
        method = RoundConfig.published().model_dump(exclude_defaults=True)
        method["lowest_timestep"] = 0
    elif cell.method in OBJECTIVES:
        method = {"objective": cell.method}
    if cell.method == "robust":
        method["label_noise"] = cell.noise
    asked = {**changes.get("", {}), **changes.get(cell.method, {})}
    base = default_config(clear).model_dump()
    return RoundConfig.model_validate({**base, **method, **asked, "seed": cell.seed})


def train(
    pipeline: Pipeline, data: TrainingData, config: RoundConfig, cache: Path
) -> tuple[list[StepRecord], dict[str, float]]:
    """Train a fresh policy on ``pipeline.unet``; returns its records, and seconds and forwards."""
    started = time.perf_counter()
    prompts = condition(pipeline, data.prompts, pipeline.size)
    policy = Policy.build(pipeline, config, None)
    batches = build_batches(policy, config, data, prompts, pipeline.fingerprint, cache)
    trainer = Trainer(policy, batches, config)
    prepared = time.perf_counter()
    records: list[StepRecord] = []
    with count_forwards(pipeline.unet) as counted:
        trainer.run(lambda: None, records.append, lambda: None)
    with torch.no_grad():
        kept = trainer.adapter_tensors()
        for name, parameter in policy.parameters():
            parameter.copy_(kept[name])
    visits = trainer.step * config.batch_pairs
    return records, {
        "prepare_s": prepared - started,
        "train_s": time.perf_counter() - prepared,
        "forwards_a_pair": counted.worth / visits,
        "steps": float(trainer.step),
    }


def run_cell(
    pipeline: Pipeline,
    out: Path,
    cell: Cell,
    prompts: int,
    most: int,
    changes: dict[str, dict[str, str]],
    strengths: Sequence[float],
) -> dict[float, dict[str, Any]]:
    """One round, and what its adapter does at each strength to pictures of unseen prompts."""
    started = time.perf_counter()
    made = training_pictures(pipeline, out / "base", cell.seed, prompts, cell.choices, most)
    base = unseen_pictures(pipeline, out / "base" / "unseen.npz")
    frozen = label(made, cell.taste, cell.noise, cell.seed)
    data = collate(frozen, lambda ids: torch.stack([made[int(i)].latents for i in ids]))
    config = configuration(cell, len(data.train), changes)
    records, costs = train(pipeline, data, config, out / "cache")
    told = {**costs, **figures(records), "config": config.model_dump(exclude=UNTOLD)}
    texts, seeds = [p.prompt for p in base], [p.seed for p in base]
    found = {}
    for strength in strengths:
        with using(pipeline.unet, [POLICY], [strength]):
            aligned = pictures(pipeline, texts, seeds)
        judged = judge(cell.taste, base, aligned)
        found[strength] = {**judged, **told, "cell_s": time.perf_counter() - started}
    remove_adapter(pipeline.unet, POLICY)
    return found


def figures(records: Sequence[StepRecord]) -> dict[str, float | None]:
    """How the training went towards its end."""
    tail = records[-20:]
    validated = [r.validation_ranked_right for r in records if r.validation_margin is not None]
    return {
        "train_ranked_right": float(np.mean([r.train_ranked_right or 0 for r in tail])),
        "validation_ranked_right": validated[-1] if validated else None,
        "winner_error": float(np.mean([r.winner_error for r in tail])),
        "loser_error": float(np.mean([r.loser_error for r in tail])),
    }


def cell_key(cell: Cell, prompts: int, changes: dict[str, dict[str, str]], fingerprint: str) -> str:
    """What makes a cell the same one: itself, the model, and everything that is configured."""
    config = configuration(cell, cell.choices, changes).model_dump(exclude=UNTOLD)
    sampling = GENERATION.model_dump()
    facts = [asdict(cell), prompts, config, sampling, fingerprint]
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


def parse_changes(items: Sequence[str]) -> dict[str, dict[str, str]]:
    """``name=value`` for all methods, ``method:name=value`` for one."""
    changes: dict[str, dict[str, str]] = {}
    for item in items:
        name, value = item.split("=", 1)
        method, _, field = name.rpartition(":")
        changes.setdefault(method, {})[field] = value
    return changes


def parse() -> tuple[argparse.Namespace, list[Cell]]:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--grid", help=f"one or more of {','.join(GRIDS)}")
    parser.add_argument("--tastes", type=lambda text: text.split(","))
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--choices", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--noise", type=lambda text: [float(part) for part in text.split(",")])
    parser.add_argument(
        "--methods",
        type=lambda text: text.split(","),
        help=f"default, published or an objective: {','.join(OBJECTIVES)}",
    )
    parser.add_argument("--prompts", type=int, default=16, help="prompts of the training pairs")
    parser.add_argument("--pool", type=int, default=128, help="pairs made for each seed")
    parser.add_argument(
        "--set", nargs="*", default=[], help="RoundConfig fields, [method:]name=value"
    )
    parser.add_argument(
        "--strengths",
        type=lambda text: [float(part) for part in text.split(",")],
        default=[1.0],
        help="of the adapter when the unseen prompts are drawn; one training for all",
    )
    parser.add_argument("--limit", type=int, help="cells to run at most this time")
    parser.add_argument("--report", action="store_true", help="only the table and the plot")
    parser.add_argument("--model", default="postcards")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    axes = ("tastes", "seeds", "choices", "noise", "methods")
    given = {name: getattr(options, name) for name in axes if getattr(options, name)}
    grids = [g for name in options.grid.split(",") for g in GRIDS[name]] if options.grid else [{}]
    return options, [cell for grid in grids for cell in cells_of({**grid, **given})]


def run(options: argparse.Namespace, cells: Sequence[Cell], path: Path) -> None:
    """Run the cells that ``path`` does not have yet, and append each as it is done."""
    changes, pipeline = parse_changes(options.set), load_pipeline(options.model)
    done = {cell["key"] for cell in read_cells(path)}
    wanted = [(cell_key(c, options.prompts, changes, pipeline.fingerprint), c) for c in cells]
    strengths: list[float] = options.strengths
    missing = [
        (key, cell) for key, cell in wanted if any(f"{key}@{s:g}" not in done for s in strengths)
    ][: options.limit]
    print(f"{len(wanted)} cells, {len(missing)} of them to run", flush=True)
    for key, cell in missing:
        most = max(options.pool, cell.choices)
        found = run_cell(pipeline, options.out, cell, options.prompts, most, changes, strengths)
        for strength, result in found.items():
            row = {"key": f"{key}@{strength:g}", **asdict(cell), "prompts": options.prompts}
            if strength != 1:
                row["method"] = f"{cell.method} at {strength:g}"
            row |= {"strength": strength, **result, "model": pipeline.fingerprint}
            if row["key"] not in done:
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
            told = ("win_rate", "shift", "diversity", "faithful", "train_s", "cell_s")
            shown = {name: round(row[name], 3) for name in told if name in row}
            print(cell, f"at {strength:g}", shown, flush=True)


def main() -> None:
    options, cells = parse()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "cells.jsonl"
    if not options.report:
        run(options, cells, path)
    print(report(read_cells(path), options.out / "alignment.svg"))


if __name__ == "__main__":
    main()
