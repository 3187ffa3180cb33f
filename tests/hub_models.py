"""Repositories for the Hub of the tests: real layouts, small weights, and what must be refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.hub_server import Hub

ROOT = Path(__file__).resolve().parents[1]
_WEIGHTS = {
    "unet/diffusion_pytorch_model.safetensors": 3_438_167_540,
    "vae/diffusion_pytorch_model.safetensors": 334_643_276,
    "text_encoder/model.safetensors": 492_265_874,
    "unet/diffusion_pytorch_model.fp16.safetensors": 1_719_125_304,
    "vae/diffusion_pytorch_model.fp16.safetensors": 167_335_342,
    "text_encoder/model.fp16.safetensors": 246_144_152,
}
"""A model of real size, which is listed and never sent."""
_LOOK = """
import json, sys
from inpo_studio.diffusion.families import UnsupportedModel
from inpo_studio.diffusion.sources import locate
from inpo_studio.studio.errors import StudioError
from inpo_studio.studio.model.models import examine_model
for name in sys.argv[2:]:
    try:
        if sys.argv[1] == "locate":
            told = {"place": str(locate(name))}
        else:
            found = examine_model(name, "cpu")
            missing = found.missing
            told = {"title": found.title, "plan": found.plan, "fits": found.fits}
            told["ready"] = found.ready
            told |= missing.told() | {"to_fetch": missing.to_fetch} if missing else {}
    except (StudioError, UnsupportedModel) as error:
        told = {"refused": str(error)}
    print("told", json.dumps(told))
"""


def look(
    hub: Hub, home: Path, *names: str, how: str = "examine", **more: str
) -> list[dict[str, Any]]:
    """What a process with the Hub's client as installed is told of each model."""
    environment = {**os.environ, **hub.environment(home, **more), "PYTHONPATH": str(ROOT)}
    child = subprocess.run(
        [sys.executable, "-c", _LOOK, how, *names],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert child.returncode == 0, child.stderr
    lines = [line[5:] for line in child.stdout.splitlines() if line.startswith("told ")]
    assert len(lines) == len(names), child.stdout
    return [json.loads(line) for line in lines]


def copy(pipeline: Path, folder: Path, *, weights: bool = True) -> Path:
    """A copy of a pipeline that may be changed."""
    ignored = shutil.ignore_patterns() if weights else shutil.ignore_patterns("*.safetensors")
    shutil.copytree(pipeline, folder, ignore=ignored)
    return folder


def change(folder: Path, file: str, **values: Any) -> Path:
    """Change entries of one of a pipeline's JSON files."""
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return folder


def listed(folder: Path) -> dict[str, int]:
    """Weights of real size for a folder without any."""
    return {name: size for name, size in _WEIGHTS.items() if (folder / name).parent.is_dir()}


def only_index(folder: Path, kind: str, **components: Any) -> Path:
    """A repository of another kind of pipeline, as its first file shows it."""
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": kind, **components}))
    return folder


def python(hub: Hub, home: Path, code: str, *arguments: str, **more: str) -> str:
    """Run some code where the Hub is the tests'; returns what it prints."""
    environment = {**os.environ, **hub.environment(home, **more), "PYTHONPATH": str(ROOT)}
    child = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert child.returncode == 0, child.stderr
    return child.stdout


def fetch(
    hub: Hub, home: Path, name: str, folder: Path, *flags: str, **more: str
) -> dict[str, Any]:
    """`inpo-studio fetch` to its end."""
    from tests.cli.running import Terminal

    terminal = Terminal(folder)
    terminal.environment |= hub.environment(home, **more)
    return terminal.ok("fetch", name, "--yes", *flags)
