"""The house stands as designed: imports run one way, rooms stay small, the README stays true."""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from inpo_studio.cli.parser import build_parser
from inpo_studio.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parents[1]
LONGEST_FILE = 280
LONGEST_FUNCTION = 60
HEAVY = ("torch", "diffusers", "transformers", "peft", "accelerate")

# Room -> what it may import of the project. A room may always import itself.
LEAVES = {"settings", "configs", "seeds", "machine"}
# What is known of a model from its configuration files alone.
TORCH_FREE_DIFFUSION = {
    f"diffusion.{name}"
    for name in (
        *("families", "sources", "hub", "checkpoints", "memory"),
        *("layout", "client", "cpu", "downloads", "fetch_state"),
    )
}
ALLOWED = {
    "settings": set(),
    "configs": set(),
    "seeds": set(),
    "machine": set(),
    "storage": set(),
    "inpo": {"seeds"},
    "diffusion": {"inpo", "postcards", "processes", *LEAVES},
    "postcards": {"inpo", "diffusion", *LEAVES},
    "evaluation": {"diffusion", "postcards", "storage", *LEAVES},
    "processes": LEAVES,
    "engine": {"processes", *LEAVES},
    "supervisor": {"processes", "engine", *LEAVES},
    "doctor": {"", "processes", "postcards", "storage", *TORCH_FREE_DIFFUSION, *LEAVES},
    "studio": {
        "storage",
        "engine",
        "evaluation.statistics",
        "postcards",
        "processes",
        *TORCH_FREE_DIFFUSION,
        *LEAVES,
    },
    "transfer": {"", "storage", "studio", "evaluation.statistics", *TORCH_FREE_DIFFUSION, *LEAVES},
    "training": {
        "diffusion",
        "inpo",
        "evaluation",
        "storage",
        "processes",
        *LEAVES,
    },
    "jobs": {
        "studio",
        "training",
        "diffusion",
        "evaluation",
        "storage",
        "engine",
        "processes",
        *LEAVES,
    },
    "ui": {
        "studio",
        "transfer",
        "storage",
        "engine",
        "evaluation.statistics",
        "supervisor",
        "processes",
        *LEAVES,
    },
    "cli": {
        "ui",
        "studio",
        "transfer",
        "jobs",
        "storage",
        "engine",
        "processes",
        "doctor",
        "evaluation.statistics",
        "",
        *LEAVES,
    },
    "__main__": {"cli"},
    "": {"hiding"},
}
# A variable by which a process speaks to its own children.
INTERNAL = {"INPO_STUDIO_LIFELINE"}
# Library -> the rooms that may import it.
LIBRARIES = {
    "torch": {"inpo", "diffusion", "training", "evaluation", "postcards", "jobs"},
    "diffusers": {"diffusion", "postcards", "evaluation"},
    "transformers": {"diffusion", "postcards", "evaluation"},
    "peft": {"diffusion", "postcards", "evaluation"},
    "gradio": {"ui"},
    "fastapi": {"ui"},
    "uvicorn": {"ui"},
    "dbos": {"engine", "jobs"},
    "sqlalchemy": {"storage", "studio", "jobs", "training", "transfer", "engine"},
    "alembic": {"storage"},
}


def sources() -> list[Path]:
    found = [*(ROOT / "inpo_studio").rglob("*.py"), *(ROOT / "storage").rglob("*.py")]
    return sorted([*found, ROOT / "app.py"])


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] == "storage":
        return "storage"
    if parts == ("app",):
        return "app"
    return "" if parts[1] == "__init__" else parts[1]


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Full names that a file imports, wherever in the file; names under TYPE_CHECKING as well."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            name = ".".join([*base, node.module] if node.module else base)
            for alias in node.names:
                yield f"{name}.{alias.name}", node.lineno


def arrow(name: str) -> tuple[str, str] | None:
    """The room an import leads to, and its second level (`evaluation.statistics`)."""
    parts = name.split(".")
    if parts[0] == "storage":
        return "storage", "storage"
    if parts[0] != "inpo_studio":
        return None
    rooms = [entry for entry in parts[1:3] if entry]
    if not rooms or rooms[0] == "__version__":
        return "", ""
    return rooms[0], ".".join(rooms)


def test_the_use_cases_lean_on_labelling_alone() -> None:
    """Rooms of `studio`: align, compare and model may import from label, and none from another."""
    home = ROOT / "inpo_studio" / "studio"
    rooms = {path.name for path in home.iterdir() if (path / "__init__.py").is_file()}
    assert rooms == {"align", "compare", "label", "model"}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in home.rglob("*.py")
        for name, line in imported(path)
        if path.parent != home
        and name.startswith("inpo_studio.studio.")
        and name.split(".")[2] in rooms - {"label", path.parent.name}
    ]
    assert not wrong


def test_imports_run_one_way() -> None:
    wrong = []
    for path in sources():
        room = room_of(path)
        if room == "app":
            continue
        for name, line in imported(path):
            target = arrow(name)
            if target is None or target[0] == room:
                continue
            if room not in ALLOWED:
                wrong.append(f"{path.relative_to(ROOT)}: the room {room!r} is not in the design")
            elif not {target[0], target[1]} & ALLOWED[room]:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_libraries_stay_in_their_rooms() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources()
        for name, line in imported(path)
        if room_of(path) not in LIBRARIES.get(name.split(".")[0], {room_of(path)})
    ]
    assert not wrong, "\n".join(wrong)


def loaded_after(statements: str) -> set[str]:
    code = f"{statements}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert child.returncode == 0, child.stderr
    return set(child.stdout.split())


@pytest.mark.parametrize(
    "statements",
    [
        "import inpo_studio.ui.server",
        "import inpo_studio.cli.pairs, inpo_studio.cli.export, inpo_studio.cli.choose",
        "import inpo_studio.cli.align, inpo_studio.cli.compare, inpo_studio.cli.serve",
        "import inpo_studio.cli.adapters",
        "import inpo_studio.doctor, inpo_studio.supervisor, inpo_studio.engine",
        "import inpo_studio.diffusion.checkpoints, inpo_studio.diffusion.memory",
        "import inpo_studio.postcards; inpo_studio.postcards.starter_prompts(3)",
    ],
)
def test_web_and_terminal_leave_the_heavy_libraries_alone(statements: str) -> None:
    assert not loaded_after(statements) & set(HEAVY)


def test_help_loads_only_the_standard_library() -> None:
    loaded = loaded_after("import inpo_studio.cli as c\nc.build_parser()")
    assert not loaded & {*HEAVY, "gradio", "dbos", "sqlalchemy", "pydantic", "tqdm", "numpy"}


def test_files_stay_small() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in sources()
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST_FILE
    }
    assert not long


def test_functions_stay_small() -> None:
    long = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno:
                length = node.end_lineno - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    long[f"{path.relative_to(ROOT)}:{node.name}"] = length
    assert not long


def flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from (option for option in action.option_strings if option.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield name
                yield from flags(command)


def test_readme_names_every_command_and_flag() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = {flag for flag in flags(build_parser()) if flag not in readme} - {"--help"}
    assert not missing


def test_readme_names_every_environment_variable() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    names = {PREFIX + field.name.upper() for field in fields(Settings)}
    for path in sources():
        names |= {
            node.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.startswith(PREFIX)
            and node.value != PREFIX
            and node.value.isidentifier()
            and node.value not in INTERNAL
        }
    assert not {name for name in names if name not in readme}


def test_readme_opens_with_the_two_commands() -> None:
    opening = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## ")[0]
    assert "python app.py" in opening
    assert ".[test]" in opening
    assert "pytest" in opening


def test_top_level_holds_what_the_layout_asks_for() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode or not listed.stdout:
        return  # not a checkout: an unpacked source archive
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}
    known = {"LICENSE", "README.md", "app.py", "inpo_studio", "pyproject.toml", "storage", "tests"}
    assert {name for name in top if not name.startswith(".")} <= known
