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
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion.adapters import remove_adapter, using
from inpo_studio.diffusion.loading import Pipeline, load_pipeline
from inpo_studio.inpo.objectives import OBJECTIVES
from inpo_studio.settings import USUAL_VARIATION
from inpo_studio.training.dataset import TrainingData, collate
from inpo_studio.training.forwards import count_forwards
from inpo_studio.training.loop import StepRecord, Trainer
from inpo_studio.training.policy import POLICY, Policy
from inpo_studio.training.prepare import build_batches, condition
from tests.benchmarks import stacked
from tests.benchmarks.alignment_report import report
from tests.benchmarks.cells import (
    GRIDS,
    UNTOLD,
    Cell,
    Changes,
    cell_key,
    cells_of,
    configuration,
    parse_changes,
    read_cells,
)
from tests.benchmarks.judging import judge
from tests.benchmarks.pool import Picture, label, pictures, training_pictures, unseen_pictures

Results = dict[Cell, dict[float, dict[str, Any]]]
"""What cells report, by the adapter's strength."""


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
    pipeline: Pipeline, options: argparse.Namespace, cell: Cell, changes: Changes
) -> Results:
    """One round, and what its adapter does at each strength to pictures of unseen prompts."""
    started = time.perf_counter()
    data, base = _pairs(pipeline, options, cell), _unseen(pipeline, options)
    config = configuration(cell, len(data.train), changes)
    records, costs = train(pipeline, data, config, options.out / "cache")
    told = {**costs, **figures(records), "config": config.model_dump(exclude=UNTOLD)}
    found = {}
    for strength in options.strengths:
        with using(pipeline.unet, [POLICY], [strength]):
            aligned = pictures(pipeline, [p.prompt for p in base], [p.seed for p in base])
        judged = judge(cell.taste, base, aligned)
        found[strength] = {**judged, **told, "cell_s": time.perf_counter() - started}
    remove_adapter(pipeline.unet, POLICY)
    return {cell: found}


def run_together(
    pipeline: Pipeline, options: argparse.Namespace, cells: Sequence[Cell], changes: Changes
) -> Results:
    """Cells that differ in their tastes alone, trained and drawn at once; at strength 1."""
    started = time.perf_counter()
    rounds = [_pairs(pipeline, options, cell) for cell in cells]
    base = _unseen(pipeline, options)
    config = configuration(cells[0], len(rounds[0].train), changes)
    policies, costs = stacked.train(pipeline, rounds, config, options.out / "cache")
    drawn = stacked.draw(policies, [p.prompt for p in base], [p.seed for p in base])
    remove_adapter(pipeline.unet, POLICY)
    judged = [judge(cell.taste, base, made) for cell, made in zip(cells, drawn, strict=True)]
    seconds = (time.perf_counter() - started) / len(cells)
    told = {**costs, "config": config.model_dump(exclude=UNTOLD), "cell_s": seconds}
    return {cell: {1.0: {**found, **told}} for cell, found in zip(cells, judged, strict=True)}


def _pairs(pipeline: Pipeline, options: argparse.Namespace, cell: Cell) -> TrainingData:
    most = max(options.pool, cell.choices)
    folder = options.out / "base"
    made = training_pictures(
        *(pipeline, folder, cell.seed, options.prompts, cell.choices, most, options.variation)
    )
    frozen = label(made, cell.taste, cell.noise, cell.seed)
    return collate(frozen, lambda ids: torch.stack([made[int(i)].latents for i in ids]))


def _unseen(pipeline: Pipeline, options: argparse.Namespace) -> list[Picture]:
    return unseen_pictures(pipeline, options.out / "base" / "unseen.npz")


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
    parser.add_argument(
        "--variation",
        type=float,
        default=USUAL_VARIATION,
        help="how far apart the two pictures of a pair are; 1 are two seeds of their own",
    )
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
    parser.add_argument(
        "--together",
        action="store_true",
        help="train and draw all tastes of a setting at once, in float32: for a GPU",
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
    changes = parse_changes(options.set)
    pipeline = load_pipeline(options.model, dtype="float32" if options.together else "auto")
    done = {cell["key"] for cell in read_cells(path)}
    facts = (options.prompts, options.variation, changes, pipeline.fingerprint)
    keys = {c: cell_key(c, *facts) for c in cells}
    missing = [
        cell
        for cell, key in keys.items()
        if any(f"{key}@{strength:g}" not in done for strength in options.strengths)
    ][: options.limit]
    print(f"{len(keys)} cells, {len(missing)} of them to run", flush=True)
    for found in _results(pipeline, options, missing, changes):
        for cell, strengths in found.items():
            for strength, result in strengths.items():
                row = {"key": f"{keys[cell]}@{strength:g}", **asdict(cell)}
                if strength != 1:
                    row["method"] = f"{cell.method} at {strength:g}"
                row |= {"prompts": options.prompts, "variation": options.variation}
                row |= {"strength": strength, **result}
                row |= {"model": pipeline.fingerprint, "device": pipeline.device.type}
                if row["key"] not in done:
                    with path.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
                told = ("win_rate", "shift", "diversity", "faithful", "train_s", "cell_s")
                shown = {name: round(row[name], 3) for name in told if name in row}
                print(cell, f"at {strength:g}", shown, flush=True)


def _results(
    pipeline: Pipeline, options: argparse.Namespace, cells: Sequence[Cell], changes: Changes
) -> Iterator[Results]:
    if not options.together:
        yield from (run_cell(pipeline, options, cell, changes) for cell in cells)
        return

    def setting(cell: Cell) -> tuple[Any, ...]:
        return (cell.seed, cell.choices, cell.noise, cell.method)

    for _, group in groupby(sorted(cells, key=setting), setting):
        yield run_together(pipeline, options, list(group), changes)


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
