from __future__ import annotations

import ast
from pathlib import Path

import inpo_studio.inpo

ROOM = Path(inpo_studio.inpo.__file__).parent


def test_every_public_name_stands_in_the_readme() -> None:
    text = (ROOM / "README.md").read_text(encoding="utf-8")
    for file in ROOM.glob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert f"`{node.name}`" in text, f"{file.name}: {node.name} is not in README.md"
