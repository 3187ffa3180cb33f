"""The whole loop from a terminal, on small random pipelines of every family."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.running import Terminal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def told(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Callable[[str], Terminal]:
    """told(kind) -> a terminal on that small model, with files of prompts."""

    def make(kind: str) -> Terminal:
        terminal = Terminal(tmp_path, str(tiny_model(kind)))
        prompts = [f"prompt number {index}" for index in range(6)]
        terminal.write("prompts.txt", "\n".join(["# to label", "", *prompts, prompts[0]]))
        terminal.write("unseen.txt", "an unseen prompt\nanother one\n")
        return terminal

    return make


def label(terminal: Terminal, count: int = 12) -> None:
    made = terminal.ok(
        "pairs", "--prompts", "prompts.txt", "--count", str(count), "--sampling-steps", "4"
    )
    assert (made["made"], made["prompts"], made["waiting"]) == (count, 6, count)
    terminal.ok("export", "out")
    rows = terminal.read("out/pairs.jsonl")
    assert len(rows) == count
    answers = ["left", "right", "tie", "both_bad", "skip", "left"]
    chosen = [
        {"pair": row["pair"], "choice": answers[index % len(answers)]}
        for index, row in enumerate(rows)
    ]
    terminal.write("choices.jsonl", "".join(json.dumps(line) + "\n" for line in chosen))
    assert terminal.ok("choose", "choices.jsonl")["recorded"] == count


@pytest.mark.parametrize("kind", ["sd15", "sd2v", "sdxl"])
def test_pairs_choices_round_comparison(told: Callable[[str], Terminal], kind: str) -> None:
    terminal = told(kind)
    label(terminal)
    aligned = terminal.ok("align", "--steps", "4", "--adopt")
    assert (aligned["number"], aligned["state"], aligned["steps"]) == (1, "done", 4)
    assert (Path(aligned["adapter"]) / "adapter_model.safetensors").is_file()
    assert aligned["figures"]["loss"] is not None
    assert aligned["adopted"]
    compared = terminal.ok(
        *("compare", "--prompts", "unseen.txt", "--seeds", "0,1", "--out", "compared"),
        *("--sampling-steps", "4"),
    )
    assert (compared["comparisons"], compared["labelled_prompts"]) == (4, 0)
    rows = terminal.read("compared/index.jsonl")
    assert [(row["prompt"], row["seed"]) for row in rows] == [
        (prompt, seed) for prompt in ("an unseen prompt", "another one") for seed in (0, 1)
    ]
    for row in rows:
        folder = terminal.folder / "compared"
        base, other = (Image.open(folder / row[name]) for name in ("base", "aligned"))
        assert base.size == other.size
        assert base.tobytes() != other.tobytes()


def test_interrupting_pauses_and_resuming_goes_on(told: Callable[[str], Terminal]) -> None:
    terminal = told("sd15")
    label(terminal)
    child = terminal.start("align", "--steps", "500", "--json")
    with child:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and child.poll() is None:
            log = list((terminal.workspace / "logs").glob("round-*.log"))
            if log and "training from step" in log[0].read_text():
                break
            time.sleep(0.1)
        time.sleep(1.0)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    paused = json.loads(out)
    assert paused["state"] == "paused"
    assert 0 < paused["steps"] < 500
    assert "Pausing" in err
    again = terminal.start("align", "--resume", "1", "--json")
    with again:
        time.sleep(8)
        again.send_signal(signal.SIGINT)
        out, err = again.communicate(timeout=60)
    resumed = json.loads(out)
    assert resumed["steps"] >= paused["steps"], err
