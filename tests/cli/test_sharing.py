"""An adapter out of one workspace and into another, checked, and a round that starts from it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from inpo_studio.settings import Settings
from inpo_studio.studio import open_studio
from storage.metrics import list_metrics
from storage.rounds import list_rounds
from tests.cli.running import Terminal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def label(terminal: Terminal) -> None:
    terminal.write("prompts.txt", "\n".join(f"prompt number {index}" for index in range(4)))
    made = ("pairs", "--prompts", "prompts.txt", "--count", "8", "--sampling-steps", "4")
    terminal.ok(*made, "--seed", "3")
    terminal.ok("export", "out")
    rows = terminal.read("out/pairs.jsonl")
    lines = [
        {"pair": row["pair"], "choice": ["left", "right"][i % 2]} for i, row in enumerate(rows)
    ]
    terminal.write("choices.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    terminal.ok("choose", "choices.jsonl")


def test_out_of_one_workspace_and_into_another(
    tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    model = str(tiny_model("sd15"))
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    here, there = Terminal(tmp_path / "here", model), Terminal(tmp_path / "there", model)
    label(here)
    here.ok("align", "--steps", "4")
    exported = here.ok("export-adapter", "--out", "adapter", "--check")
    assert {one["form"] for one in exported["checks"]} == {"diffusers", "peft", "kohya"}
    assert all(one["passed"] and one["difference"] <= 1 for one in exported["checks"])
    one = here("export-adapter", "--out", "one.safetensors", "--check")
    assert one.code == 0, one.err
    assert "kohya: Loads in plain diffusers" in one.out

    kohya = next(name for name in exported["files"] if "round-1" in name)
    brought = there.ok("import-adapter", kohya, "--name", "from here", "--adopt")
    assert (brought["number"], brought["name"], brought["adopted"]) == (1, "from here", True)
    label(there)
    aligned = there.ok("align", "--steps", "3")
    assert (aligned["number"], aligned["state"]) == (2, "done")
    assert aligned["config"]["rank"] == brought["rank"]
    studio = open_studio(Settings(workspace=there.workspace, model=model))
    try:
        with studio.database.read() as session:
            first, second = list_rounds(session)
            metric = list_metrics(session, second.id)[0]
    finally:
        studio.close()
    assert second.parent_id == first.id
    # Before the first update policy and reference are the same.
    assert (metric.step, metric.winner_error, metric.loser_error) == (1, 0.0, 0.0)
    assert metric.loss == pytest.approx(math.log(2), abs=1e-6)
    there.ok("export-adapter", "--out", "again", "--round", "2", "--check")
    card = (tmp_path / "there" / "again" / "README.md").read_text("utf-8")
    assert "Imported from | from here (kohya form)" in card
    assert "1 → 2" in card
