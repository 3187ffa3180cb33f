"""The whole loop through the terminal, for several simulated tastes, with untouched defaults.

Run: ``python -m tests.benchmarks.terminal_loop --out DIR [--tastes warm,-warm,...]``
Makes 64 pairs on 16 prompts once, then for each taste (in a copy of that workspace): choices by
the taste, a default round, a comparison on 12 unseen prompts at 4 seeds. Prints a line a taste:
the win rate with its interval, and the seconds of ``align`` from its start to its end.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

from inpo_studio.evaluation.statistics import tally, verdict, win_rate_interval
from tests.benchmarks.pool import prompts_of
from tests.benchmarks.tastes import score

DEFAULT_TASTES = "warm,-warm,-bright,colourful,centred_detail"
PROMPTS, PAIRS = 16, 64
TEST_PROMPTS, TEST_SEEDS = 12, "0,1,2,3"


def studio(workspace: Path, *arguments: str) -> dict[str, Any]:
    """Run one command of the terminal and return its JSON object."""
    command = [sys.executable, "-m", "inpo_studio", arguments[0], "--workspace", str(workspace)]
    done = subprocess.run(
        [*command, "--json", *arguments[1:]], stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def label(exported: Path, taste: str, choices: Path) -> None:
    """Choose in every exported pair the picture that ``taste`` likes better."""
    lines = []
    for line in (exported / "pairs.jsonl").read_text("utf-8").splitlines():
        pair = json.loads(line)
        left, right = (
            score(taste, Image.open(exported / pair[side])) for side in ("left", "right")
        )
        lines.append(
            json.dumps({"pair": pair["pair"], "choice": "left" if left > right else "right"})
        )
    choices.write_text("\n".join(lines) + "\n", encoding="utf-8")


def run_taste(out: Path, taste: str, seed: int) -> dict[str, Any]:
    """One taste in its own copy of the labelled workspace."""
    workspace = out / f"workspace{taste}"
    shutil.rmtree(workspace, ignore_errors=True)
    shutil.copytree(out / "workspace", workspace)
    choices = out / f"choices{taste}.jsonl"
    label(out / "exported", taste, choices)
    studio(workspace, "choose", str(choices))
    started = time.perf_counter()
    aligned = studio(workspace, "align", "--seed", str(seed))
    seconds = time.perf_counter() - started
    compared = out / f"compared{taste}"
    shutil.rmtree(compared, ignore_errors=True)
    arguments = [
        "--prompts",
        str(out / "unseen.txt"),
        "--seeds",
        TEST_SEEDS,
        "--out",
        str(compared),
    ]
    studio(workspace, "compare", *arguments)
    rows = [json.loads(line) for line in (compared / "index.jsonl").read_text("utf-8").splitlines()]
    counts = tally(
        (
            score(taste, Image.open(compared / row["base"])),
            score(taste, Image.open(compared / row["aligned"])),
        )
        for row in rows
    )
    return {
        "taste": taste,
        "win_rate": counts.win_rate,
        "interval": win_rate_interval(counts),
        "verdict": verdict(counts),
        "align_s": round(seconds, 1),
        "figures": aligned["figures"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tastes", default=DEFAULT_TASTES)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    train_prompts = prompts_of(PROMPTS, options.seed, unseen=False)
    (out / "prompts.txt").write_text("\n".join(train_prompts) + "\n", encoding="utf-8")
    test_prompts = prompts_of(TEST_PROMPTS, options.seed, unseen=True)
    (out / "unseen.txt").write_text("\n".join(test_prompts) + "\n", encoding="utf-8")
    if not (out / "exported").exists():
        started = time.perf_counter()
        made = [
            "--prompts",
            str(out / "prompts.txt"),
            "--count",
            str(PAIRS),
            "--seed",
            str(options.seed),
        ]
        studio(out / "workspace", "pairs", *made)
        print(json.dumps({"pairs": PAIRS, "pairs_s": round(time.perf_counter() - started, 1)}))
        studio(out / "workspace", "export", str(out / "exported"))
    for taste in options.tastes.split(","):
        print(json.dumps(run_taste(out, taste, options.seed)), flush=True)


if __name__ == "__main__":
    main()
