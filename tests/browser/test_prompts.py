"""The prompts' page: prompts typed, pasted and from a file arrive as they are and run nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from inpo_studio.studio import Studio
from inpo_studio.studio.label.prompts import comparison_prompts
from storage.prompts import list_prompts
from tests.browser.test_labelling import HOSTILE

pytestmark = pytest.mark.browser

TAB = "#own-prompts"
FIELD = f"{TAB} textarea"
TOLD = f"{TAB} [data-is=told]"
LINES = f"{TAB} .lines li"


@pytest.fixture
def prompts_page(
    serve: Callable[..., Any], studio: Studio, open_page: Callable[[str], Page]
) -> Page:
    """The opened tab, in a workspace with one prompt that has pairs and one that is held out."""
    comparison_prompts(studio, ["a held-out harbour"])
    page = open_page(serve(["a red barn"], 3).url)
    page.get_by_role("tab", name="Prompts", exact=True).click()
    expect(page.locator(LINES)).to_have_count(2)
    return page


def texts(studio: Studio) -> list[str]:
    with studio.database.read() as session:
        return [prompt.text for prompt in list_prompts(session) if prompt.split != "held_out"]


def make(page: Page) -> str:
    page.locator(f"{TAB} [data-do=make]").click()
    told = page.locator(TOLD)
    expect(told).to_be_visible()
    return told.text_content() or ""


def upload(page: Page, path: Path) -> str:
    page.locator(f"{TAB} input[type=file]").set_input_files(path)
    told = page.locator(TOLD)
    expect(told).to_contain_text(path.name)
    return told.text_content() or ""


def test_typed_and_pasted_prompts_arrive(
    prompts_page: Page, studio: Studio, complaints: list[str]
) -> None:
    page, field = prompts_page, prompts_page.locator(FIELD)
    expect(page.locator(f"{TAB} [data-do=make]")).to_be_disabled()
    field.click()
    page.keyboard.type("a lighthouse at dusk")
    page.keyboard.press("Enter")
    page.keyboard.type("  a lighthouse at dusk  ")
    expect(page.locator(f"{TAB} [data-is=count]")).to_have_text("1 prompt")
    assert make(page) == "8 pairs of one prompt are being made; find them under Label."
    expect(field).to_have_value("")
    # the clipboard is not there for a headless page; a paste is an input of several lines
    field.click()
    page.keyboard.insert_text("a fox\r\n\r\na field of tulips\ra bridge\n")
    expect(page.locator(f"{TAB} [data-is=count]")).to_have_text("3 prompts")
    page.keyboard.press("Control+Enter")
    expect(page.locator(TOLD)).to_contain_text("12 pairs of 3 prompts")
    assert texts(studio) == [
        "a red barn",
        "a lighthouse at dusk",
        "a fox",
        "a field of tulips",
        "a bridge",
    ]
    assert len(studio.engine.unfinished("pairs")) == 2
    assert not complaints


def test_a_file_is_looked_through_before_it_counts(
    prompts_page: Page, studio: Studio, tmp_path: Path, complaints: list[str]
) -> None:
    page = prompts_page
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeff# a remark\r\na fox\r\n\r\nein Bär im Schnee\r\na fox\r\n".encode())
    page.locator(FIELD).fill("a lighthouse")
    assert upload(page, path).startswith("2 prompts from “prompts.txt” are in the field")
    expect(page.locator(FIELD)).to_have_value("a lighthouse\na fox\nein Bär im Schnee\n")
    assert texts(studio) == ["a red barn"]
    make(page)
    expect(page.locator(LINES)).to_have_count(5)
    assert texts(studio)[1:] == ["a lighthouse", "a fox", "ein Bär im Schnee"]
    assert not complaints


def test_hostile_prompts_are_listed_as_typed(
    prompts_page: Page, studio: Studio, tmp_path: Path, complaints: list[str]
) -> None:
    page = prompts_page
    path = tmp_path / "<img src=x onerror=window.hurt=1>.txt"
    path.write_text("\n".join(HOSTILE), encoding="utf-8")
    upload(page, path)
    make(page)
    expect(page.locator(LINES)).to_have_count(2 + len(HOSTILE))
    assert texts(studio) == ["a red barn", *HOSTILE]
    shown = page.locator(f"{LINES} .text")
    assert set(HOSTILE) <= set(shown.all_text_contents())
    assert shown.evaluate_all("(all) => all.every((one) => one.children.length === 0)")
    page.locator(f"{TAB} [data-is=search]").fill("${alert")
    expect(page.locator(LINES)).to_have_count(1)
    assert page.evaluate("window.hurt") is None
    assert not complaints


WRONG_FILES = [
    ("a.png", b"\x89PNG\r\n\x1a\n\x00\xff", "is not UTF-8 text; save it as plain text."),
    ("latin.txt", "ein Bär".encode("latin-1"), "is not UTF-8 text; save it as plain text."),
    ("nul.txt", b"a fox\0", "is no text file; save it as plain text."),
    ("empty.txt", b"\n  \n# only remarks\n", "holds no prompts; write one a line."),
    ("large.txt", b"a fox\n" * 800_000, "is larger than 4 MB; split it."),
]


def test_a_wrong_file_is_one_sentence(
    prompts_page: Page, studio: Studio, tmp_path: Path, complaints: list[str]
) -> None:
    for name, content, sentence in WRONG_FILES:
        (tmp_path / name).write_bytes(content)
        assert upload(prompts_page, tmp_path / name) == f"“{name}” {sentence}"
        expect(prompts_page.locator(TOLD)).to_have_class("told refused")
        expect(prompts_page.locator(FIELD)).to_have_value("")
    assert texts(studio) == ["a red barn"]
    assert not complaints


def test_what_cannot_be_a_prompt_stays_in_the_field(
    prompts_page: Page, studio: Studio, complaints: list[str]
) -> None:
    field = prompts_page.locator(FIELD)
    for text, word in (
        ("a fox\na held-out harbour", "held out"),
        ("a fox\n" + "x" * 2001, "2001 bytes"),
        ("\n".join(f"prompt {number}" for number in range(2001)), "2001 prompts are too many"),
    ):
        field.fill(text)
        said = make(prompts_page)
        assert word in said
        assert "\n" not in said
        expect(field).to_have_value(text)
    assert texts(studio) == ["a red barn"]
    assert studio.engine.unfinished("pairs") == []
    assert not complaints


def test_what_there_is_of_each(prompts_page: Page, studio: Studio, complaints: list[str]) -> None:
    page = prompts_page
    line = page.locator(LINES).first
    expect(line).to_contain_text("a red barn")
    expect(line).to_contain_text("3 pairs, 0 labelled")
    expect(line.locator(".st-chip")).to_have_text("teaches")
    expect(page.locator(f"{TAB} [data-is=held_out]")).to_have_text("1")
    page.locator(f"{TAB} [data-which=compare]").click()
    expect(page.locator(LINES)).to_have_count(1)
    expect(page.locator(LINES)).to_contain_text("a held-out harbour")
    expect(page.locator(f"{LINES} button")).to_have_count(0)
    page.locator(f"{TAB} [data-which=starter]").click()
    expect(page.locator(f"{TAB} [data-is=empty]")).to_be_visible()
    page.locator(f"{TAB} [data-which=own]").click()
    expect(line).to_contain_text("a red barn")
    line.evaluate("(row) => { row.kept = true; }")
    page.get_by_role("tab", name="Label", exact=True).click()
    page.wait_for_selector('#pair-picker .picker[data-pair]:not([data-pair=""])')
    expect(page.locator("#pair-picker .picker")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.get_by_role("tab", name="Prompts", exact=True).click()
    expect(line).to_contain_text("3 pairs, 1 labelled")
    assert line.evaluate("(row) => row.kept"), "the row was made anew"
    line.get_by_role("button", name="More pairs").click()
    reply = line.locator(".told")
    expect(reply).to_have_text("4 more pairs of this prompt are being made.")
    expect(page.locator(TOLD)).to_be_hidden()
    expect(page.locator(f"{TAB} [data-is=making]")).not_to_be_empty()
    assert len(studio.engine.unfinished("pairs")) == 1
    assert not complaints
