"""Bad input: exit code 2, one sentence, nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from inpo_studio.cli import main
from inpo_studio.cli.parser import OBJECTIVES
from inpo_studio.configs import Objective
from inpo_studio.studio import Studio
from tests.cli.running import Terminal
from tests.studio.workspace import add_pairs


def test_every_objective_can_be_asked_for() -> None:
    assert get_args(Objective) == tuple(OBJECTIVES)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INPO_STUDIO_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("INPO_STUDIO_LOCK_DIR", str(tmp_path / "locks"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("# none yet\n\na red house\n", encoding="utf-8")
    (tmp_path / "empty.txt").write_text("# nothing\n\n", encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    (tmp_path / "long.txt").write_text("a" * 2001, encoding="utf-8")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("", "required"),
        ("paint", "paint"),
        ("pairs --count 4", "--prompts"),
        ("pairs --prompts prompts.txt --count 0", "--count"),
        ("pairs --prompts prompts.txt --count many", "--count"),
        ("pairs --prompts prompts.txt --count 4 --seed -1", "--seed"),
        ("pairs --prompts prompts.txt --count 4 --guidance 99", "guidance"),
        ("pairs --prompts prompts.txt --count 4 --sampling-steps 0", "--sampling-steps"),
        ("pairs --prompts missing.txt --count 4", "missing.txt"),
        ("pairs --prompts full --count 4", "full"),
        ("pairs --prompts empty.txt --count 4", "no prompts"),
        ("pairs --prompts latin.txt --count 4", "UTF-8"),
        ("pairs --prompts long.txt --count 4", "line 1"),
        ("pairs --prompts prompts.txt --count 4 --model ./missing", "missing"),
        ("choose missing.jsonl", "missing.jsonl"),
        ("export full", "not empty"),
        ("export full/file", "not a folder"),
        ("align --objective taste", "--objective"),
        ("align --steps 0", "--steps"),
        ("align", "no choices"),
        ("align --resume 3", "no round 3"),
        ("compare --prompts prompts.txt --seeds 0,0 --out new", "--seeds"),
        ("compare --prompts prompts.txt --seeds a --out new", "--seeds"),
        ("compare --prompts prompts.txt --seeds 0 --out full", "not empty"),
        ("compare --prompts prompts.txt --seeds 0 --out new", "align"),
        ("compare --prompts prompts.txt --seeds 0 --out new --round 7", "no round 7"),
        ("import-adapter missing.safetensors", "missing.safetensors"),
        ("import-adapter full", "no .safetensors"),
        ("push-adapter 7 me/it", "no round 7"),
        ("push-adapter 7", "OWNER/NAME"),
        ("serve --port 99999", "--port"),
        ("serve --host 0.0.0.0", "0.0.0.0"),
        ("worker --slot x", "--slot"),
    ],
)
def test_one_sentence_and_code_two(
    here: Path, capfd: pytest.CaptureFixture[str], command: str, word: str
) -> None:
    assert main([*command.split(), "--json"]) == 2
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 1
    sentence = json.loads(out)["error"]
    assert word in sentence
    assert sentence.endswith(".")
    assert err == f"inpo-studio: {sentence}\n"
    assert not (here / "new").exists()


@pytest.fixture
def pairs(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("INPO_STUDIO_WORKSPACE", str(studio.settings.workspace))
    return [pair.id for pair in add_pairs(studio, 3)]


@pytest.mark.parametrize(
    ("second", "word"),
    [
        ('{"pair": "PAIR1", "choice": "both"}', "both_bad"),
        ('{"pair": "PAIR1", "choice": ["left"]}', "left, right"),
        ('{"pair": "PAIR1", "choice": 1}', "left, right"),
        ('{"pair": "PAIR1"}', "choice"),
        ('{"choice": "left"}', "pair"),
        ('{"pair": 7, "choice": "left"}', "pair"),
        ('{"pair": "PAIR0", "choice": "right"}', "line 1"),
        ('["PAIR1", "left"]', "pair"),
        ('{"pair": "PAIR1", "choice": "left"', "JSON"),
        ("[" * 100_000, "JSON"),
        ('{"pair": "unknown", "choice": "left"}', "unknown"),
    ],
)
def test_choose_names_the_bad_line_and_writes_nothing(
    pairs: list[str],
    studio: Studio,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    second: str,
    word: str,
) -> None:
    lines = f'{{"pair": "PAIR0", "choice": "left"}}\n{second}\n'
    for index, pair in enumerate(pairs):
        lines = lines.replace(f"PAIR{index}", pair)
    path = tmp_path / "choices.jsonl"
    path.write_text(lines, encoding="utf-8")
    assert main(["choose", str(path), "--json"]) == 2
    sentence = json.loads(capfd.readouterr().out)["error"]
    assert "ine 2" in sentence
    assert word in sentence
    from storage.choices import live_choices

    with studio.database.read() as session:
        assert live_choices(session) == []


def test_the_console_script_has_a_help(terminal: Terminal) -> None:
    ended = terminal("--help")
    assert ended.code == 0
    assert "align" in ended.out
    assert not terminal.workspace.exists()
    assert terminal("--version").out.startswith("inpo-studio ")
