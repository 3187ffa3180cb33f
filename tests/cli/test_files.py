"""Export and choose: what goes out comes back with the same meaning."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from inpo_studio.cli import main
from inpo_studio.studio import Studio
from inpo_studio.studio.label.choices import record_choice
from storage.choices import live_choices
from storage.pairs import get_pair
from tests.studio.workspace import add_pairs


@pytest.fixture(autouse=True)
def _same_workspace(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INPO_STUDIO_WORKSPACE", str(studio.settings.workspace))


def read(folder: Path) -> list[dict[str, object]]:
    text = (folder / "pairs.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def run(capfd: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, object]:
    assert main([*map(str, words), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_left_and_right_mean_the_same_in_both_files(
    studio: Studio, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pairs = add_pairs(studio, 3)
    record_choice(
        studio,
        key="shown the other way round",
        pair_id=pairs[0].id,
        choice="left",
        left_image_id=pairs[0].second_image_id,
        right_image_id=pairs[0].first_image_id,
    )
    assert run(capfd, "export", tmp_path / "out")["pairs"] == 3
    lines = read(tmp_path / "out")
    assert [line["choice"] for line in lines] == ["right", None, None]
    assert lines[1]["seeds"] == {"left": 2, "right": 3}
    left = Image.open(tmp_path / "out" / str(lines[1]["left"])).getpixel((0, 0))
    right = Image.open(tmp_path / "out" / str(lines[1]["right"])).getpixel((0, 0))
    assert isinstance(left, tuple)
    assert isinstance(right, tuple)
    assert left[0] > right[0], "the pair's first picture is the left one"

    lines[1]["choice"] = "left"
    (tmp_path / "filled.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = run(capfd, "choose", tmp_path / "filled.jsonl")
    assert (told["recorded"], told["replaced"], told["unchanged"]) == (1, 0, 1)
    with studio.database.read() as session:
        (_, second) = live_choices(session)
    assert second.left_image_id == pairs[1].first_image_id
    assert second.annotator == "me"


def test_every_row_names_its_pictures(
    studio: Studio, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    add_pairs(studio, 5)
    add_pairs(studio, 2, model="another/model")
    (tmp_path / "out").mkdir()
    run(capfd, "export", tmp_path / "out")
    lines = read(tmp_path / "out")
    assert len(lines) == 5
    named = {line[side] for line in lines for side in ("left", "right")}
    found = {f"images/{path.name}" for path in (tmp_path / "out" / "images").iterdir()}
    assert named == found
    assert len(found) == 10


def test_a_variation_is_exported_with_the_seeds_it_lies_between(
    studio: Studio, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plain, varied = add_pairs(studio, 2)
    with studio.database.write() as session:
        pair = get_pair(session, varied.id)
        image = pair.second_image
        image.seed, image.variation_seed, image.variation_strength = 7, 9, 0.5
        pair.first_image.seed = 7
    run(capfd, "export", tmp_path / "out")
    found = {line["pair"]: (line["seeds"], line["variation"]) for line in read(tmp_path / "out")}
    assert found[varied.id] == ({"left": 7, "right": 9}, 0.5)
    assert found[plain.id][1] is None


def test_annotators_are_told_apart(
    studio: Studio, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (pair,) = add_pairs(studio, 1)
    path = tmp_path / "choices.jsonl"
    path.write_text(json.dumps({"pair": pair.id, "choice": "skip"}) + "\r\n\n")
    assert run(capfd, "choose", path, "--annotator", " Ada ")["annotator"] == "Ada"
    assert run(capfd, "choose", path)["recorded"] == 1
    assert main(["choose", str(path), "--annotator", " "]) == 2


def test_choices_are_kept_under_the_configured_name(
    studio: Studio,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (pair,) = add_pairs(studio, 1)
    path = tmp_path / "choices.jsonl"
    path.write_text(json.dumps({"pair": pair.id, "choice": "left"}))
    (studio.settings.workspace / "studio.toml").write_text('annotator = "Bea"\n')
    assert run(capfd, "choose", path)["annotator"] == "Bea"
    monkeypatch.setenv("INPO_STUDIO_ANNOTATOR", "Cleo")
    assert run(capfd, "choose", path)["annotator"] == "Cleo"
    assert run(capfd, "choose", path, "--annotator", "Dan")["annotator"] == "Dan"


def test_doctor_looks_and_changes_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INPO_STUDIO_WORKSPACE", str(tmp_path / "none"))
    main(["doctor", "--json"])
    found = json.loads(capfd.readouterr().out)
    assert found["workspace"]["ok"]
    assert found["versions"]["torch"]
    assert found["device"]["used"]
    assert found["worker"] == {"ok": True, "text": found["worker"]["text"], "running": False}
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_doctor_plans_a_round_without_a_network(
    kind: str,
    tmp_path: Path,
    tiny_model: Callable[[str], Path],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("INPO_STUDIO_WORKSPACE", str(tmp_path / "none"))
    main(["doctor", "--json", "--device", "cpu", "--model", str(tiny_model(kind))])
    found = json.loads(capfd.readouterr().out)["plan"]
    assert found["ok"], found
    assert found["family"] in found["text"]
    assert found["micro_batch_pairs"] == 8
    assert not found["gradient_checkpointing"]
    main(["doctor", "--json", "--model", "nobody/has-this-model"])
    found = json.loads(capfd.readouterr().out)["plan"]
    assert "once the model is on this machine" in found["text"]
