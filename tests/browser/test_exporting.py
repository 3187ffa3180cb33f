"""Adapters as files, by clicks on the Align page: downloaded, checked, and LoRAs brought in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from inpo_studio.postcards import pipeline_path
from inpo_studio.studio import Studio
from inpo_studio.studio.align.export_checks import CheckResult, note
from inpo_studio.transfer.import_adapter import import_adapter
from storage.schema import Round
from tests.browser import round_rows as rows
from tests.browser.test_align import ALIGN, at, in_state, open_align
from tests.transfer import foreign
from tests.transfer.hub_uploads import TOKEN, taking_uploads

pytestmark = pytest.mark.browser


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    """A LoRA for the postcards model in kohya's form."""
    model = pipeline_path()
    return foreign.write_kohya(tmp_path / "ink.safetensors", model, foreign.layers(model))


@pytest.fixture
def made(studio: Studio, lora: Path) -> Round:
    """A round whose adapter has files."""
    return import_adapter(studio, str(lora), "<b>ink</b>")


@pytest.fixture
def page(
    serve: Callable[..., Any], studio: Studio, open_page: Callable[[str], Page]
) -> Callable[[], Page]:
    def opened() -> Page:
        shown = open_page(serve([], 0).url)
        open_align(shown)
        return shown

    return opened


def card(page: Page, made: Round) -> Locator:
    return page.locator(f"{ALIGN} .round[data-round='{made.id}']")


def row(page: Page, made: Round, title: str) -> Locator:
    return card(page, made).locator(".form").filter(has_text=title)


def test_download_check_and_card(
    page: Callable[[], Page], studio: Studio, made: Round, complaints: list[str]
) -> None:
    shown = page()
    expect(card(shown, made)).to_contain_text("<b>ink</b>")
    button = card(shown, made).get_by_role("button", name="Export", exact=True)
    button.click()
    expect(button).to_have_attribute("aria-expanded", "true")
    kohya, peft = row(shown, made, "For ComfyUI"), row(shown, made, "For PEFT")
    with shown.expect_download() as caught:
        kohya.get_by_role("button", name="Download").click()
    assert caught.value.suggested_filename == "postcards-round-1.safetensors"
    (kept,) = studio.settings.workspace.glob("rounds/*/exports/kohya-*/files/*.safetensors")
    assert Path(caught.value.path()).read_bytes() == kept.read_bytes()
    with shown.expect_download() as caught:
        kohya.get_by_role("link", name="Model card").click()
    assert Path(caught.value.path()).read_text("utf-8").startswith("---\n")
    with shown.expect_download() as caught:
        peft.get_by_role("button", name="Download").click()
    assert caught.value.suggested_filename == "postcards-round-1-peft.zip"

    kohya.get_by_role("button", name="Check the file").click()
    found = kohya.locator(".found")
    expect(found).to_have_text("Waits for the worker.")
    expect(kohya.get_by_role("button", name="Check the file")).to_be_disabled()
    expect(peft.get_by_role("button", name="Check the file")).to_be_enabled()
    (job,) = studio.engine.unfinished("check")
    result = CheckResult(form="kohya", pictures=4, difference=0, effect=90)
    report = kept.parent.with_name("check.json")
    note(report, {"job_id": job.job_id, "result": result.model_dump()})
    expect(found).to_contain_text("Loads in plain diffusers: pictures differ by at most 0/255")
    expect(found).to_have_attribute("data-state", "passed")
    shown.reload()
    open_align(shown)
    card(shown, made).get_by_role("button", name="Export", exact=True).click()
    expect(row(shown, made, "For ComfyUI").locator(".found")).to_contain_text("0/255")
    card(shown, made).get_by_role("button", name="Export", exact=True).click()
    expect(card(shown, made).locator(".export")).to_be_hidden()
    assert not complaints


def test_what_cannot_be_exported_is_told(
    page: Callable[[], Page], studio: Studio, complaints: list[str]
) -> None:
    rows.label(studio, 10, held=0)
    empty = rows.add_done(studio)
    shown = page()
    card(shown, empty).get_by_role("button", name="Export", exact=True).click()
    row(shown, empty, "For PEFT").get_by_role("button", name="Download").click()
    expect(at(shown, "told")).to_contain_text("missing or damaged")
    expect(row(shown, empty, "For PEFT").locator(".file")).to_be_hidden()
    assert not complaints


def test_a_lora_is_brought_and_branched_from(
    page: Callable[[], Page], studio: Studio, lora: Path, complaints: list[str]
) -> None:
    rows.label(studio, 10, held=0)
    shown = page()
    expect(at(shown, "bring-source")).to_be_hidden()
    at(shown, "bring").locator("summary").click()
    expect(at(shown, "bring-go")).to_be_disabled()
    at(shown, "bring-source").fill("/nowhere/ink.safetensors")
    at(shown, "bring-go").click()
    expect(at(shown, "bring-problem")).to_contain_text("There is no file /nowhere/ink.safetensors")
    at(shown, "bring-source").fill(str(lora))
    at(shown, "bring-go").click()
    brought = shown.locator(f"{ALIGN} .round")
    expect(brought).to_contain_text("ink")
    expect(brought).to_contain_text("From the file ink.safetensors")
    expect(brought.get_by_text("imported", exact=True)).to_be_visible()
    expect(at(shown, "bring-problem")).to_be_hidden()
    expect(at(shown, "watch")).to_be_hidden()
    brought.get_by_role("button", name="Branch from here").click()
    expect(at(shown, "sentence")).to_contain_text("on top of round 1")
    brought.get_by_role("button", name="Adopt").click()
    expect(at(shown, "in-use")).to_have_text("New pairs come from round 1.")
    assert not complaints


def test_a_round_can_be_paused_while_a_lora_is_fetched(
    page: Callable[[], Page], studio: Studio, made: Round, complaints: list[str]
) -> None:
    rows.label(studio, 10, held=0)
    training = rows.add_round(studio)
    rows.begin_training(studio, training)
    shown = page()
    adopt = card(shown, made).get_by_role("button", name="Adopt")
    expect(adopt).to_be_visible()
    expect(card(shown, made).get_by_role("button", name="Branch from here")).to_have_count(0)
    held: list[Route] = []

    def hold_back(route: Route) -> None:
        if '"bring"' in (route.request.post_data or ""):
            held.append(route)
        else:
            route.continue_()

    shown.route("**/component_server/**", hold_back)
    at(shown, "bring").locator("summary").click()
    at(shown, "bring-source").fill("/nowhere/ink.safetensors")
    at(shown, "bring-go").click()
    expect(at(shown, "bring-go")).to_have_text("One moment …")
    adopt.click()
    expect(at(shown, "in-use")).to_have_text("New pairs come from round 1.")
    at(shown, "watch-buttons").get_by_role("button", name="Pause").click()
    in_state(studio, training, "pausing")
    expect(at(shown, "bring-go")).to_be_disabled()
    held[0].continue_()
    expect(at(shown, "bring-problem")).to_contain_text("There is no file")
    expect(at(shown, "bring-go")).to_be_enabled()
    assert not complaints


def test_it_is_put_on_the_hub(
    page: Callable[[], Page],
    made: Round,
    complaints: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with taking_uploads() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        shown = page()
        here = card(shown, made)
        here.get_by_role("button", name="Export", exact=True).click()
        here.get_by_text("Put it on the Hugging Face Hub").click()
        found = here.locator("[data-at=hub-found]")
        here.get_by_label("Name of the repository").fill("eve/ink")
        here.get_by_role("button", name="Upload").click()
        expect(found).to_contain_text("may not write to 'eve/ink'")
        here.get_by_label("Name of the repository").fill("ada/ink")
        here.get_by_role("button", name="Upload").click()
        expect(found).to_contain_text(f"It is at {hub.url}/ada/ink; only you can see it.")
        assert hub.repositories == {"ada/ink": True}
        assert "postcards-round-1.safetensors" in hub.files["ada/ink"]
    log = (tmp_path / "server.log").read_bytes()
    assert TOKEN.encode() not in log
    assert not complaints


def test_nothing_sticks_out_on_a_phone(
    page: Callable[[], Page], made: Round, complaints: list[str]
) -> None:
    shown = page()
    shown.set_viewport_size({"width": 390, "height": 844})
    card(shown, made).get_by_role("button", name="Export", exact=True).click()
    at(shown, "bring").locator("summary").click()
    expect(row(shown, made, "For diffusers")).to_be_visible()
    assert shown.evaluate("document.documentElement.scrollWidth") <= 390
    assert not complaints
