"""Models: what is at hand, changing to another one, and what is remembered of it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from inpo_studio.diffusion.client import LEFT_OVER_S, sweep
from inpo_studio.diffusion.fetch_state import SILENT_S, FetchState, read_state, write_state
from inpo_studio.engine import SPARE
from inpo_studio.settings import (
    CHOSEN_MODEL_FILE,
    Settings,
    SettingsError,
    keep_chosen_model,
    load_settings,
)
from inpo_studio.studio import Studio
from inpo_studio.studio.errors import StudioError
from inpo_studio.studio.label.labelling import Labelling
from inpo_studio.studio.model.fetching import Fetching
from inpo_studio.studio.model.models import examine_model, named, offers, present_model
from inpo_studio.studio.model.switching import use_model
from inpo_studio.studio.overview import overview
from storage.rounds import claim_attempt, create_round, request, set_state
from tests.labelled import add_chosen_pairs
from tests.studio.workspace import add_pairs

Tiny = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))


@pytest.fixture
def studio(studio: Studio) -> Studio:
    studio.settings = replace(studio.settings, device="cpu")
    return studio


def test_the_present_model_is_described(studio: Studio, tiny_model: Tiny) -> None:
    found = present_model(studio)
    assert found.title == "Stable Diffusion 1, 128×128, one text encoder, ε-prediction"
    assert found.origin == "studio"
    assert found.ready
    assert found.fits
    assert "pairs at once" in found.plan
    assert 20e6 < found.bytes < 40e6
    assert found.size.endswith("MB")
    use_model(studio, str(tiny_model("sdxl")))
    found = present_model(studio)
    assert found.title == "Stable Diffusion XL, 64×64, two text encoders, ε-prediction"
    assert (found.origin, found.place) == ("folder", str(tiny_model("sdxl")))


def test_a_model_that_has_gone_is_told_not_raised(
    studio: Studio, tiny_model: Tiny, tmp_path: Path
) -> None:
    shutil.copytree(tiny_model("sd15"), tmp_path / "mine")
    use_model(studio, str(tmp_path / "mine"))
    shutil.rmtree(tmp_path / "mine")
    found = present_model(studio)
    assert "There is no model at" in found.problem
    assert not found.ready


def test_what_belongs_to_a_model_stays_with_it_and_comes_back(
    studio: Studio, tiny_model: Tiny
) -> None:
    add_chosen_pairs(studio, 3, model="postcards")
    add_pairs(studio, 2)
    first = overview(studio)
    assert (first.choices, first.pairs_ready) == (3, 2)
    told: list[Settings] = []
    studio.on_renewed.append(told.append)
    use_model(studio, str(tiny_model("sd2v")))
    assert studio.settings.model == str(tiny_model("sd2v"))
    assert told == [studio.settings]
    assert (overview(studio).choices, overview(studio).pairs_ready) == (0, 0)
    add_chosen_pairs(studio, 1, model=studio.settings.model, named="a sea")
    assert overview(studio).choices == 1
    use_model(studio, "postcards")
    assert (overview(studio).choices, overview(studio).pairs_ready) == (3, 2)
    used = {offer.name: offer for offer in offers(studio)}
    assert used["postcards"].present
    assert used[str(tiny_model("sd2v"))].used
    assert "v-prediction" in used[str(tiny_model("sd2v"))].title


def test_a_page_that_does_not_know_lets_go_of_the_former_models_pairs(
    studio: Studio, tiny_model: Tiny
) -> None:
    pairs = [pair.id for pair in add_pairs(studio, 3)]
    labelling = Labelling(studio)
    held = [shown.pair_id for shown in labelling.serve("me", "page", [], 3).pairs]
    assert set(held) == set(pairs)
    use_model(studio, str(tiny_model("sd15")))
    after = labelling.serve("me", "page", held, 3)
    assert set(after.lost) == set(pairs)
    assert after.pairs == []


@pytest.mark.parametrize("state", ["queued", "running", "pausing", "paused", "done"])
def test_a_round_at_work_is_not_cut_into(state: str, studio: Studio, tiny_model: Tiny) -> None:
    with studio.database.write() as session:
        made = create_round(session, model="postcards", config={}, seed=0, total_steps=4)
        if state != "queued":
            attempt = claim_attempt(session, made.id)
        if state in ("pausing", "paused"):
            request(session, made.id, "pause")
        if state in ("paused", "done"):
            set_state(session, made.id, state, attempt=attempt)  # type: ignore[arg-type]
    if state in ("paused", "done"):
        use_model(studio, str(tiny_model("sd15")))
        assert studio.settings.model == str(tiny_model("sd15"))
        return
    with pytest.raises(StudioError, match="Round 1 is at work; pause or end it under Align first"):
        use_model(studio, str(tiny_model("sd15")))
    assert studio.settings.model == "postcards"
    assert not (studio.settings.workspace / CHOSEN_MODEL_FILE).exists()


def test_pairs_of_the_former_model_that_nobody_asked_for_are_dropped(
    studio: Studio, tiny_model: Tiny
) -> None:
    spare = studio.engine.enqueue("pairs", {}, priority=SPARE)
    wanted = studio.engine.enqueue("pairs", {})
    use_model(studio, str(tiny_model("sd15")))
    assert studio.engine.status(spare).state == "cancelled"
    assert studio.engine.status(wanted).state == "queued"


def test_the_choice_is_remembered_unless_a_model_is_named(studio: Studio, tiny_model: Tiny) -> None:
    workspace, folder = studio.settings.workspace, str(tiny_model("sd15"))
    (workspace / "studio.toml").write_text(f'model = "{tiny_model("sdxl")}"\n')
    flags = {"workspace": workspace}
    assert load_settings(flags, {}).model == str(tiny_model("sdxl"))
    use_model(studio, folder)
    assert load_settings(flags, {}).model == folder
    assert load_settings({**flags, "model": "postcards"}, {}).model == "postcards"
    assert load_settings(flags, {"INPO_STUDIO_MODEL": "a/b"}).model == "a/b"
    use_model(studio, "postcards")
    assert load_settings(flags, {}).model == "postcards"


def test_a_remembered_model_that_has_gone_says_the_way_out(tmp_path: Path) -> None:
    keep_chosen_model(tmp_path, str(tmp_path / "gone"))
    with pytest.raises(SettingsError, match="put it back, or start with --model postcards"):
        load_settings({"workspace": tmp_path}, {})
    assert load_settings({"workspace": tmp_path, "model": "postcards"}, {}).model == "postcards"
    (tmp_path / CHOSEN_MODEL_FILE).write_text("{")
    with pytest.raises(SettingsError, match="delete it, or start with --model"):
        load_settings({"workspace": tmp_path}, {})
    assert load_settings({"workspace": tmp_path, "model": "postcards"}, {}).model == "postcards"


def test_names_are_taken_as_people_copy_them(tiny_model: Tiny) -> None:
    assert named(" a/b ") == "a/b"
    assert named("https://huggingface.co/a/b/tree/main") == "a/b"
    assert named(f"{tiny_model('sd15')}/") == str(tiny_model("sd15"))
    for wrong in ("", "  ", "x" * 600, "nothing", "/gone", "a/b/c", "\0"):
        with pytest.raises(StudioError):
            named(wrong)


def test_an_incomplete_folder_is_refused(tiny_model: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(tiny_model("sdxl"), folder)
    (folder / "text_encoder_2" / "model.safetensors").unlink()
    with pytest.raises(StudioError, match=r"lacks safetensors .* of its text_encoder_2.*save_pre"):
        examine_model(str(folder), "cpu")


def test_a_download_that_fell_silent_has_stopped(tmp_path: Path) -> None:
    file = tmp_path / "download.json"
    assert read_state(file) is None
    write_state(file, FetchState(model="a/b", done=5, total=9))
    state = read_state(file)
    assert state is not None
    assert state.state == "running"
    old = state.model_copy(update={"at": time.time() - SILENT_S - 1})
    file.write_text(old.model_dump_json())
    state = read_state(file)
    assert state is not None
    assert state.state == "stopped"
    state = read_state(file, alive=True)
    assert state is not None
    assert state.state == "running"
    file.write_text("{")
    assert read_state(file) is None


def test_what_a_killed_download_left_behind_is_removed_later(tmp_path: Path) -> None:
    blobs = tmp_path / "hf" / "models--a--b" / "blobs"
    blobs.mkdir(parents=True)
    for name, age_s in (("old.incomplete", 2 * LEFT_OVER_S), ("new.incomplete", 1), ("old", 1e6)):
        (blobs / name).write_bytes(b"x")
        os.utime(blobs / name, (0, time.time() - age_s))
    sweep("a/b")
    assert {path.name for path in blobs.iterdir()} == {"new.incomplete", "old"}


def test_a_model_that_is_here_is_not_fetched(studio: Studio) -> None:
    with pytest.raises(StudioError, match="on this machine already"):
        Fetching(studio.settings).begin(examine_model("postcards", "cpu"))
