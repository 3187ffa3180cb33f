"""The Align page in Chromium: rounds are started, watched, stopped, kept and adopted by clicks.

No training runs here: the rows that one would write are written by the test.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from inpo_studio.studio import Studio
from inpo_studio.studio.align.rounds import adopt_round
from storage import model_states
from storage.rounds import get_round, list_rounds, set_state
from storage.schema import Round
from tests.browser import round_rows as rows

pytestmark = pytest.mark.browser
ALIGN = "#align .align"


def at(page: Page, name: str) -> Locator:
    return page.locator(f'{ALIGN} [data-is="{name}"]')


def button(page: Page, name: str) -> Locator:
    return at(page, "watch-buttons").get_by_role("button", name=name, exact=True)


def open_align(page: Page) -> None:
    page.get_by_role("tab", name="Align", exact=True).click()
    expect(at(page, "in-use")).not_to_be_empty()


def curve(page: Page, chart: str, series: str) -> Locator:
    return page.locator(f'[data-chart="{chart}"] path.line[data-series="{series}"]')


def stored(studio: Studio) -> list[Round]:
    with studio.database.read() as session:
        return list_rounds(session)


def in_state(studio: Studio, made: Round, state: str) -> None:
    """Wait until what was clicked has reached the database."""
    deadline = time.monotonic() + 30
    while True:
        with studio.database.read() as session:
            found = get_round(session, made.id).state
        if found == state:
            return
        assert time.monotonic() < deadline, f"{found} instead of {state}"
        time.sleep(0.05)


@pytest.fixture
def page(
    serve: Callable[..., Any], studio: Studio, open_page: Callable[[str], Page]
) -> Callable[[], Page]:
    """page() -> the Align page of the workspace as it is by then."""

    def opened() -> Page:
        shown = open_page(serve([], 0).url)
        open_align(shown)
        return shown

    return opened


def test_start_watch_pause_resume_cancel(
    page: Callable[[], Page], studio: Studio, complaints: list[str]
) -> None:
    rows.label(studio, 64)
    shown = page()
    expect(at(shown, "go")).to_have_text("Align on my 64 choices")
    expect(at(shown, "sentence")).to_contain_text("takes about")
    at(shown, "go").dblclick()
    expect(at(shown, "watch-chip")).to_have_text("waiting")
    expect(at(shown, "start")).to_be_hidden()
    (made,) = stored(studio)

    attempt = rows.begin_training(studio, made)
    rows.train(studio, made, attempt, 1, 12)
    line = curve(shown, "ranked", "train")
    expect(line).to_have_attribute("data-points", "12")
    expect(curve(shown, "ranked", "validation")).to_have_attribute("data-points", "1")
    line.evaluate("(path) => { path.kept = true; }")
    picture = shown.locator(f"{ALIGN} .cell[data-step='0'] img").first
    picture.evaluate("(image) => { image.kept = true; }")
    rows.train(studio, made, attempt, 13, 40)
    for chart, series in (("ranked", "train"), ("margin", "train"), ("errors", "losers")):
        expect(curve(shown, chart, series)).to_have_attribute("data-points", "40")
    assert line.evaluate("(path) => path.kept"), "the curve was drawn anew"
    assert picture.evaluate("(image) => image.kept"), "the pictures were put in anew"
    expect(shown.locator(f"{ALIGN} .cell")).to_have_count(9)
    expect(at(shown, "step-text")).to_have_text("Step 40 of 80")
    expect(at(shown, "left-text")).to_have_text("about 35 s left")

    button(shown, "Pause").click()
    in_state(studio, made, "pausing")
    with studio.database.write() as session:
        set_state(session, made.id, "paused", attempt=attempt)
    button(shown, "Resume").click()
    in_state(studio, made, "queued")
    attempt = rows.begin_training(studio, made)
    button(shown, "Cancel").click()
    expect(at(shown, "watch-buttons")).to_contain_text("Drop what round 1 has learnt?")
    button(shown, "No, go on").click()
    in_state(studio, made, "running")
    button(shown, "Cancel").click()
    button(shown, "Yes, cancel it").click()
    in_state(studio, made, "cancelling")
    with studio.database.write() as session:
        set_state(session, made.id, "cancelled", attempt=attempt)
    expect(at(shown, "watch-chip")).to_have_text("cancelled")
    expect(at(shown, "start")).to_be_visible()
    expect(at(shown, "go")).to_be_enabled()
    assert not complaints


def test_what_is_wrong_in_the_drawer_starts_nothing(
    page: Callable[[], Page], studio: Studio, complaints: list[str]
) -> None:
    rows.label(studio, 12, held=0)
    shown = page()
    expect(at(shown, "hint")).to_contain_text("52 more choices")
    at(shown, "drawer").locator("summary").click()
    steps = shown.locator(f"{ALIGN} [data-field=steps]")
    steps.fill("a few")
    expect(at(shown, "unplanned")).to_contain_text("Steps must be a whole number")
    expect(at(shown, "go")).to_be_disabled()
    steps.fill("300")
    expect(at(shown, "sentence")).to_contain_text("300 steps")
    expect(at(shown, "unplanned")).to_be_hidden()
    expect(at(shown, "changed")).to_contain_text("1 change")
    shown.locator(f"{ALIGN} [data-field=objective]").select_option("ipo")
    expect(at(shown, "objective-note")).to_contain_text("fixed margin")
    expect(at(shown, "go")).to_be_enabled()
    at(shown, "go").click()
    expect(at(shown, "watch")).to_be_visible()
    (made,) = stored(studio)
    assert (made.total_steps, made.config["objective"]) == (300, "ipo")
    assert not complaints


def test_an_empty_workspace_leads_back_to_labelling(
    page: Callable[[], Page], complaints: list[str]
) -> None:
    shown = page()
    expect(at(shown, "sentence")).to_contain_text("label 8 more")
    expect(at(shown, "go")).to_be_disabled()
    expect(at(shown, "outlook")).to_be_visible()
    at(shown, "label-more").click()
    expect(shown.locator("#pair-picker .picker")).to_be_visible()
    assert not complaints


def test_keep_adopt_branch_revert_compare(
    page: Callable[[], Page], studio: Studio, complaints: list[str]
) -> None:
    rows.label(studio, 64)
    one = rows.add_done(studio)
    adopt_round(studio, one.id)
    two = rows.add_done(studio, parent=one)
    other = rows.add_done(studio)
    shown = page()
    cards = shown.locator(f"{ALIGN} .round")
    assert [cards.nth(n).locator("h3").text_content() for n in range(3)] == [
        "Round 3",
        "Round 1",
        "Round 2",
    ]
    child = shown.locator(f"{ALIGN} .round[data-round='{two.id}']")
    expect(child).to_contain_text("from round 1")
    expect(child).to_contain_text("of 8 validation pairs ranked right")
    child.get_by_text("Keep an earlier step instead").click()
    child.get_by_role("button", name="Keep step 40").click()
    expect(child).to_contain_text("uses step 40 of 80")
    child.get_by_role("button", name="Adopt").click()
    expect(child.get_by_text("in use", exact=True)).to_be_visible()
    expect(at(shown, "in-use")).to_have_text("New pairs come from round 2.")

    card = shown.locator(f"{ALIGN} .round[data-round='{other.id}']")
    card.get_by_role("button", name="Branch from here").click()
    expect(at(shown, "sentence")).to_contain_text("round 3")
    assert shown.locator(f"{ALIGN} [data-field=parent]").input_value() == other.id
    child.get_by_role("button", name="Show its curves").click()
    expect(at(shown, "watch-title")).to_have_text("Round 2")
    at(shown, "revert").click()
    expect(at(shown, "in-use")).to_have_text("New pairs come from the base model.")
    with studio.database.read() as session:
        assert model_states.adopted_round(session, one.model) is None
    if shown.get_by_role("tab", name="Compare").count():
        card.get_by_role("button", name="Compare").click()
        expect(at(shown, "tree")).to_be_hidden()
    assert not complaints


def test_a_failure_is_told_and_can_be_resumed(
    page: Callable[[], Page], studio: Studio, complaints: list[str]
) -> None:
    rows.label(studio, 10, held=0)
    made = rows.add_round(studio)
    attempt = rows.begin_training(studio, made)
    rows.train(studio, made, attempt, 1, 27)
    sentence = "The loss stopped being a finite number: lower the learning rate or raise beta."
    with studio.database.write() as session:
        set_state(session, made.id, "failed", attempt=attempt, failure=sentence)
    (studio.settings.logs / f"round-{made.id}.log").write_text("one\n<b>the last line</b>\n")
    shown = page()
    expect(at(shown, "failure")).to_have_text(sentence)
    at(shown, "log-box").locator("summary").click()
    expect(at(shown, "log")).to_contain_text("<b>the last line</b>")
    button(shown, "Resume").click()
    in_state(studio, made, "queued")
    assert not complaints


def test_it_looks_only_while_it_is_seen(
    page: Callable[[], Page], studio: Studio, complaints: list[str]
) -> None:
    rows.label(studio, 8, held=0)
    made = rows.add_round(studio)
    rows.begin_training(studio, made)
    shown = page()
    looks: list[float] = []
    shown.on(
        "request",
        lambda asked: (
            looks.append(time.monotonic()) if '"look"' in (asked.post_data or "") else None
        ),
    )
    shown.wait_for_timeout(3500)
    assert 2 <= len(looks) <= 5, "once a second"
    shown.get_by_role("tab", name="Label", exact=True).click()
    shown.wait_for_timeout(500)
    before = len(looks)
    shown.wait_for_timeout(2500)
    assert len(looks) == before
    assert not complaints


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_sticks_out_and_nothing_jumps(
    page: Callable[[], Page], studio: Studio, complaints: list[str], width: int
) -> None:
    rows.label(studio, 16)
    one = rows.add_done(studio)
    made = rows.add_round(studio, parent=one)
    attempt = rows.begin_training(studio, made)
    rows.train(studio, made, attempt, 1, 20)
    shown = page()
    shown.set_viewport_size({"width": width, "height": 900})
    expect(curve(shown, "loss", "train")).to_have_attribute("data-points", "20")
    shown.evaluate("() => document.fonts.ready")
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    place = """() => JSON.stringify([...document.querySelectorAll('#align .plot, #align .cell')]
        .map((one) => one.getBoundingClientRect().top))"""
    before = shown.evaluate(place)
    rows.train(studio, made, attempt, 21, 39)
    expect(curve(shown, "loss", "train")).to_have_attribute("data-points", "39")
    assert shown.evaluate(place) == before
    assert not complaints
