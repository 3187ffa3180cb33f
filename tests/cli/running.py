"""Running commands as a user does: a process of its own, its two outputs apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on standard output."""
        lines = self.out.splitlines()
        assert len(lines) == 1, self.out
        found = json.loads(lines[0])
        assert isinstance(found, dict)
        return found


class Terminal:
    """Runs `inpo-studio` with a workspace of its own."""

    def __init__(self, folder: Path, model: str = "postcards") -> None:
        self.folder = folder
        self.workspace = folder / "workspace"
        self.environment = {
            **{name: value for name, value in os.environ.items() if "INPO_STUDIO" not in name},
            "INPO_STUDIO_WORKSPACE": str(self.workspace),
            "INPO_STUDIO_MODEL": model,
            "INPO_STUDIO_DEVICE": "cpu",
            "INPO_STUDIO_LOCK_DIR": str(folder / "locks"),
            "PYTHONPATH": str(ROOT),
        }

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "inpo_studio", *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str | Path, timeout: float = 240) -> Ended:
        with self.start(*arguments) as child:
            try:
                out, err = child.communicate(timeout=timeout)
            except BaseException:
                child.kill()
                raise
        return Ended(child.returncode, out, err)

    def ok(self, *arguments: str | Path, timeout: float = 240) -> dict[str, Any]:
        """Run with --json, expect success, return the object."""
        ended = self(*arguments, "--json", timeout=timeout)
        assert ended.code == 0, ended.err
        return ended.json

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def read(self, name: str) -> list[dict[str, Any]]:
        text = (self.folder / name).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]
