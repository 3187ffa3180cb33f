"""Pair-steps per second: ours, with and without its caches, against the published step.

    python -m tests.benchmarks.speed --out DIR [--model postcards] [--batch 8] [--repeats 5]

Both train on the same latents and prompts in one process, with the same dtype, batch and attention,
in turn: ten steps of ours, then ten published ones at timesteps 50, 150, ..., 950, which together
cost what uniform ones do. Each turn is a line of ``DIR/speed.jsonl``; a stopped run goes on with
the missing ones. Prints a table of medians and draws ``DIR/speed.svg``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion.latents import latent_shape
from inpo_studio.diffusion.loading import Pipeline, load_pipeline
from inpo_studio.training.dataset import FrozenPair, TrainingData, collate
from inpo_studio.training.forwards import PUBLISHED_PER_PAIR, count_forwards
from inpo_studio.training.loop import Trainer
from inpo_studio.training.policy import Policy
from inpo_studio.training.prepare import build_batches, condition
from tests.benchmarks.plotting import Point, dot_chart, round_marks
from tests.benchmarks.pool import prompts_of
from tests.benchmarks.published_step import Published, held_bytes

PAIRS = 64
STEPS = 10
TIMESTEPS = range(50, 1000, 100)
Row = dict[str, Any]


def data_of(pipeline: Pipeline) -> TrainingData:
    """PAIRS pairs of noise for latents: what they show costs no time."""
    prompts = prompts_of(16, 0, unseen=False)
    pairs = [
        FrozenPair(str(i), prompts[i % 16], f"w{i}", f"l{i}", 1.0, "train") for i in range(PAIRS)
    ]
    generator = torch.Generator().manual_seed(0)
    shape = latent_shape(pipeline)
    return collate(pairs, lambda ids: torch.randn((len(ids), *shape), generator=generator))


class Both:
    """The two trainers on one machine, and what is measured of them."""

    def __init__(self, pipeline: Pipeline, config: RoundConfig, scratch: Path) -> None:
        self.pipeline, self.config = pipeline, config
        self.data = data_of(pipeline)
        self.prompts = condition(pipeline, self.data.prompts, pipeline.size)
        self.published = Published.build(pipeline)
        self.policy = Policy.build(pipeline, config, None)
        self.scratch = scratch
        self.trainer: Trainer | None = None

    def caches(self) -> float:
        """Seconds to invert every picture, with nothing kept from before."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        started = self._now()
        batches = build_batches(
            self.policy, self.config, self.data, self.prompts, "speed", self.scratch
        )
        seconds = self._now() - started
        if self.trainer is None:
            self.trainer = Trainer(self.policy, batches, self.config)
        return seconds

    def ours(self) -> Row:
        """STEPS optimiser steps of ours, without measurements between them."""
        assert self.trainer is not None
        trainer, self.trainer.step = self.trainer, 0

        def steps() -> None:
            for _ in range(STEPS):
                self._our_step(trainer)

        return self._timed(steps, STEPS)

    def theirs(self) -> Row:
        """One published step at each of TIMESTEPS."""
        n = self.config.batch_pairs
        pairs = self.data.train.take(torch.arange(n))
        device = self.pipeline.device
        x_0 = torch.cat([self.data.x_0[pairs.winner], self.data.x_0[pairs.loser]]).to(device)
        told = self.prompts.take(pairs.prompt.repeat(2)).to(device)

        def steps() -> None:
            for timestep in TIMESTEPS:
                self.published.step(x_0, told, timestep)

        return self._timed(steps, len(TIMESTEPS))

    def held(self) -> dict[str, dict[str, int]]:
        """Bytes of weights, gradients and optimizer: of ours, and of the published step."""
        assert self.trainer is not None
        lora = sum(p.numel() * p.element_size() for p in self.trainer.parameters)
        ours = held_bytes([self.pipeline.unet], self.trainer.optimizer)
        theirs = held_bytes([self.published.policy], self.published.optimizer)
        theirs["weights"] += ours["weights"] - lora
        return {"ours": ours, "published": theirs}

    def _our_step(self, trainer: Trainer) -> None:
        trainer.optimizer.zero_grad(set_to_none=True)
        for micro in trainer.batches.of_step(trainer.step):
            errors = trainer.batches.errors(trainer.policy, micro)
            losses = trainer.batches.losses(errors, micro)
            (losses.sum() / self.config.batch_pairs).backward()
        torch.nn.utils.clip_grad_norm_(trainer.parameters, self.config.gradient_clip)
        trainer.optimizer.step()
        trainer.step += 1

    def _timed(self, steps: Callable[[], None], count: int) -> Row:
        networks = [self.pipeline.unet, self.published.policy]
        if self.pipeline.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with count_forwards(networks[0]) as first, count_forwards(networks[1]) as second:
            started = self._now()
            steps()
            seconds = self._now() - started
        pairs = count * self.config.batch_pairs
        row: Row = {
            "pairs_a_second": pairs / seconds,
            "forwards_a_pair": (first.worth + second.worth) / pairs,
        }
        if self.pipeline.device.type == "cuda":
            row["peak_bytes"] = torch.cuda.max_memory_allocated()
        return row

    def _now(self) -> float:
        if self.pipeline.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def turn(both: Both) -> Row:
    """Caches, ours and the published step, once each."""
    caches = both.caches()
    row = {"caches_s": caches, "ours": both.ours(), "published": both.theirs()}
    row["held"] = both.held()
    return row


def summary(rows: list[Row], config: RoundConfig) -> dict[str, float]:
    """Medians over the turns; ratios are taken within each turn."""
    visits = config.steps * config.batch_pairs
    ours = np.array([row["ours"]["pairs_a_second"] for row in rows])
    published = np.array([row["published"]["pairs_a_second"] for row in rows])
    caches = np.array([row["caches_s"] for row in rows])
    with_caches = visits / (visits / ours + caches)
    held = {who: sum(rows[-1]["held"][who].values()) for who in ("ours", "published")}
    return {
        "ours": float(np.median(ours)),
        "ours with caches": float(np.median(with_caches)),
        "published": float(np.median(published)),
        "times as fast": float(np.median(ours / published)),
        "times as fast, caches included": float(np.median(with_caches / published)),
        "caches, s": float(np.median(caches)),
        "our forwards a pair": rows[-1]["ours"]["forwards_a_pair"],
        "published forwards a pair": rows[-1]["published"]["forwards_a_pair"],
        "our bytes": held["ours"],
        "published bytes": held["published"],
        "share of the bytes": held["ours"] / held["published"],
    }


def table(found: dict[str, float], rows: list[Row], config: RoundConfig) -> str:
    visits = config.steps * config.batch_pairs
    held = rows[-1]["held"]

    def megabytes(who: str) -> str:
        return ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in held[who].items())

    lines = [
        (
            f"{len(rows)} turns, {config.batch_pairs} pairs a step, {PAIRS} pairs of pictures, "
            f"a round of {visits} visits"
        ),
        "",
        "| | pair-steps a second | forwards a pair | held |",
        "|---|---|---|---|",
        (
            f"| ours | {found['ours']:.2f} | {found['our forwards a pair']:.1f} "
            f"| {megabytes('ours')} |"
        ),
        f"| ours with caches ({found['caches, s']:.1f} s) | {found['ours with caches']:.2f} | | |",
        (
            f"| published (its note: {PUBLISHED_PER_PAIR}) | {found['published']:.2f} "
            f"| {found['published forwards a pair']:.1f} | {megabytes('published')} |"
        ),
        "",
        (
            f"{found['times as fast']:.2f} times as fast, "
            f"{found['times as fast, caches included']:.2f} with caches; "
            f"{found['share of the bytes']:.0%} of the bytes."
        ),
    ]
    return "\n".join(lines)


def draw(rows: list[Row], config: RoundConfig, path: Path) -> None:
    visits = config.steps * config.batch_pairs
    named = {
        "ours": [row["ours"]["pairs_a_second"] for row in rows],
        "ours with caches": [
            visits / (visits / row["ours"]["pairs_a_second"] + row["caches_s"]) for row in rows
        ],
        "published": [row["published"]["pairs_a_second"] for row in rows],
    }
    points = [
        Point(name, "median, least and most", float(np.median(v)), min(v), max(v))
        for name, v in named.items()
    ]
    most = max(point.high for point in points)
    dot_chart(path, points, "Training speed", "pair-steps a second", round_marks(most))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="postcards")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], help="RoundConfig fields, name=value")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    size = {"batch_pairs": options.batch, "micro_batch_pairs": options.batch}
    config = RoundConfig.model_validate({**size, **dict(i.split("=", 1) for i in options.set)})
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    path = out / "speed.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    if len(rows) < options.repeats:
        pipeline = load_pipeline(options.model, device=options.device, dtype=options.dtype)
        both = Both(pipeline, config, out / "scratch")
        turn(both)  # a first turn to warm up, not kept
        for _ in tqdm(range(options.repeats - len(rows)), desc="turns"):
            rows.append(turn(both))
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    found = summary(rows, config)
    print(table(found, rows, config))
    draw(rows, config, out / "speed.svg")


if __name__ == "__main__":
    main()
