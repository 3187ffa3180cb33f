"""How well a round learns a simulated taste from few choices, on unseen prompts at equal seeds.

Run: ``python -m tests.benchmarks.alignment --out DIR --tastes warm,-warm --set steps=60``
Each cell (taste, seed, configuration) is one line of ``DIR/cells.jsonl``; cells that are there are
not run again. Pictures of the base model are made once and kept in ``DIR``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from inpo_studio.configs import GenerationConfig, RoundConfig
from inpo_studio.diffusion.adapters import using
from inpo_studio.diffusion.loading import Pipeline, load_pipeline
from inpo_studio.diffusion.sampling import sample
from inpo_studio.evaluation.statistics import tally, win_rate_interval
from inpo_studio.postcards.scenes import caption, held_out, random_scene
from inpo_studio.seeds import derive_seed
from inpo_studio.training.dataset import FrozenPair, TrainingData, collate
from inpo_studio.training.loop import StepRecord, Trainer
from inpo_studio.training.policy import POLICY, Policy
from inpo_studio.training.prepare import build_batches, condition
from tests.benchmarks.tastes import score

GENERATION = GenerationConfig(guidance=3.0, steps=20, batch_size=16)
TEST_PROMPTS, TEST_SEEDS = 12, 4


@dataclass(frozen=True)
class Picture:
    prompt: str
    seed: int
    image: Image.Image
    latents: torch.Tensor


def prompts_of(count: int, seed: int, unseen: bool) -> list[str]:
    """``count`` captions; ``unseen`` ones are of scenes kept out of the model's training."""
    rng = np.random.default_rng([seed, 41 if unseen else 40])
    found: list[str] = []
    while len(found) < count:
        scene = random_scene(rng)
        text = caption(scene)
        if held_out(scene) == unseen and text not in found:
            found.append(text)
    return found


def pictures(
    pipeline: Pipeline, prompts: Sequence[str], seeds: Sequence[int], kept: Path | None
) -> list[Picture]:
    """Pictures of ``prompts`` at ``seeds``, kept in the file ``kept`` when named."""
    if kept is not None and kept.exists():
        stored = np.load(kept)
        return [
            Picture(prompt, seed, Image.fromarray(pixels), torch.from_numpy(latents))
            for prompt, seed, pixels, latents in zip(
                prompts, seeds, stored["pixels"], stored["latents"], strict=True
            )
        ]
    made: list[Picture] = []
    size = GENERATION.batch_size
    for start in tqdm(range(0, len(prompts), size), desc="pictures", leave=False):
        rows = slice(start, start + size)
        for offset, s in enumerate(sample(pipeline, prompts[rows], seeds[rows], GENERATION)):
            made.append(Picture(prompts[start + offset], seeds[start + offset], s.image, s.latents))
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(
            kept,
            pixels=np.stack([np.asarray(p.image) for p in made]),
            latents=np.stack([p.latents.numpy() for p in made]),
        )
    return made


def label(made: Sequence[Picture], taste: str, noise: float, seed: int) -> list[FrozenPair]:
    """Neighbouring pictures as pairs, labelled by ``taste`` with a share ``noise`` of flips.

    The taste ``random`` flips a coin. One prompt in ten is validation.
    """
    rng = np.random.default_rng([seed, 7])
    prompts = list(dict.fromkeys(p.prompt for p in made))
    pairs = []
    for index in range(0, len(made), 2):
        first, second = made[index], made[index + 1]
        if taste == "random":
            better = bool(rng.random() < 0.5)
        else:
            better = (score(taste, first.image) > score(taste, second.image)) != bool(
                rng.random() < noise
            )
        winner, loser = (index, index + 1) if better else (index + 1, index)
        split = "validation" if prompts.index(first.prompt) % 10 == 9 else "train"
        pairs.append(FrozenPair(str(index), first.prompt, str(winner), str(loser), 1.0, split))
    return pairs


def train(
    pipeline: Pipeline, data: TrainingData, config: RoundConfig, cache: Path
) -> tuple[list[StepRecord], float]:
    """Train a fresh policy on ``pipeline.unet``; returns its records and the seconds it took."""
    started = time.perf_counter()
    prompts = condition(pipeline, data.prompts, pipeline.size)
    policy = Policy.build(pipeline, config, None)
    batches = build_batches(policy, config, data, prompts, pipeline.fingerprint, cache)
    trainer = Trainer(policy, batches, config)
    records: list[StepRecord] = []
    trainer.run(lambda: None, records.append, lambda: None)
    with torch.no_grad():
        kept = trainer.adapter_tensors()
        for name, parameter in policy.parameters():
            parameter.copy_(kept[name])
    return records, time.perf_counter() - started


def run_cell(
    pipeline: Pipeline,
    out: Path,
    taste: str,
    seed: int,
    choices: int,
    prompts: int,
    noise: float,
    config: RoundConfig,
) -> dict[str, Any]:
    """One round on one taste, and its win rate on unseen prompts at equal seeds."""
    texts = prompts_of(prompts, seed, unseen=False)
    each = [texts[i // 2 % len(texts)] for i in range(2 * choices)]
    seeds = [derive_seed(seed, "pair", i) % 2**31 for i in range(len(each))]
    made = pictures(pipeline, each, seeds, out / "base" / f"pairs-{prompts}-{choices}-{seed}.npz")
    test_prompts = [p for p in prompts_of(TEST_PROMPTS, 0, unseen=True) for _ in range(TEST_SEEDS)]
    test_seeds = list(range(TEST_SEEDS)) * TEST_PROMPTS
    base = pictures(pipeline, test_prompts, test_seeds, out / "base" / "test.npz")
    frozen = label(made, taste, noise, seed)
    data = collate(frozen, lambda ids: torch.stack([made[int(i)].latents for i in ids]))
    records, seconds = train(
        pipeline, data, config.model_copy(update={"seed": seed}), out / "cache"
    )
    with using(pipeline.unet, [POLICY]):
        aligned = pictures(pipeline, test_prompts, test_seeds, None)
    judge = taste if taste != "random" else "warm"
    scores = [
        (score(judge, b.image), score(judge, a.image)) for b, a in zip(base, aligned, strict=True)
    ]
    counts = tally(scores)
    spread = float(np.std([s[0] for s in scores]))
    moved = [
        np.abs(np.asarray(a.image, float) - np.asarray(b.image, float)).mean() / 255
        for a, b in zip(aligned, base, strict=True)
    ]
    tail = records[-20:]
    return {
        "win_rate": counts.win_rate,
        "interval": win_rate_interval(counts),
        "shift": float(np.mean([a - b for b, a in scores])) / spread,
        "pixels_moved": float(np.mean(moved)),
        "train_ranked_right": float(np.mean([r.train_ranked_right or 0 for r in tail])),
        "validation_ranked_right": records[-1].validation_ranked_right,
        "winner_error": float(np.mean([r.winner_error for r in tail])),
        "loser_error": float(np.mean([r.loser_error for r in tail])),
        "seconds": seconds,
    }


def cell_key(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tastes", default="warm,-warm,-bright,colourful")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--choices", type=int, default=64)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--noise", type=float, default=0.0, help="share of flipped labels")
    parser.add_argument("--set", nargs="*", default=[], help="RoundConfig fields, name=value")
    parser.add_argument("--model", default="postcards")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = RoundConfig.model_validate(dict(item.split("=", 1) for item in options.set))
    options.out.mkdir(parents=True, exist_ok=True)
    cells = options.out / "cells.jsonl"
    done = (
        {json.loads(line)["key"] for line in cells.read_text().splitlines()}
        if cells.exists()
        else set()
    )
    for taste in options.tastes.split(","):
        for seed in map(int, options.seeds.split(",")):
            pipeline = load_pipeline(options.model)
            facts = {
                "taste": taste,
                "seed": seed,
                "choices": options.choices,
                "prompts": options.prompts,
                "noise": options.noise,
                "config": config.model_dump(),
                "model": pipeline.fingerprint,
            }
            if cell_key(facts) in done:
                continue
            result = run_cell(
                pipeline,
                options.out,
                taste,
                seed,
                options.choices,
                options.prompts,
                options.noise,
                config,
            )
            with cells.open("a") as file:
                file.write(json.dumps({"key": cell_key(facts), **facts, **result}) + "\n")
            print(taste, seed, json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
