"""The Compare page: its grid, slider, strength dial and own prompts, in a real browser."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect
from sqlalchemy import select

from inpo_studio.jobs.pictures import Painter
from inpo_studio.jobs.pipelines import Pipelines
from inpo_studio.jobs.worker import embedded_worker
from inpo_studio.studio import Studio
from inpo_studio.studio.label.prompts import label_prompts
from inpo_studio.studio.label.starters import add_starters, held_out_starters
from storage.prompts import find_prompt
from storage.rounds import create_round
from storage.schema import Comparison, Image, Round
from tests.browser.serving import Server, draw
from tests.jobs.support import Drawn, fake_paint, fake_pipeline
from tests.studio.workspace import add_done_round

pytestmark = pytest.mark.browser

EARLIER = "a sentence that is <b>not</b> markup"


def paint(painter: Any, prompts: Any, seeds: Any) -> list[Drawn]:
    """Soft pictures of random colours, others for every prompt, seed, adapter and strength."""
    made = []
    for drawn, prompt, seed in zip(
        fake_paint(painter, prompts, seeds), prompts, seeds, strict=True
    ):
        text = f"{prompt}|{seed}|{painter.adapter_id}|{painter.scale}"
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        made.append(Drawn(draw(number), drawn.latents))
    return made


def with_folder(studio: Studio, made: Round) -> Round:
    (studio.settings.workspace / "adapters" / made.id).mkdir(parents=True, exist_ok=True)
    return made


@pytest.fixture
def at_work(studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker on the studio's jobs that needs no model."""
    monkeypatch.setenv("INPO_STUDIO_LOCK_DIR", str(tmp_path / "locks"))
    monkeypatch.setattr(Painter, "paint", paint)
    monkeypatch.setattr(Pipelines, "get", fake_pipeline)
    monkeypatch.setattr(Painter, "size", property(lambda self: (128, 128)))
    with embedded_worker(studio.settings):
        yield


@pytest.fixture
def open_compare(
    studio: Studio, serve: Callable[..., Server], open_page: Callable[[str], Page]
) -> Callable[[], Page]:
    """open_compare() -> the page of the studio as it is by then."""

    def open_it() -> Page:
        page = open_page(serve(["a red barn"], 2).url)
        page.get_by_role("tab", name="Compare").click()
        expect(page.locator("#compare [data-state]")).to_be_visible()
        return page

    return open_it


def part(page: Page, name: str) -> Locator:
    return page.locator(f'#compare [data-is="{name}"]')


def do(page: Page, name: str) -> Locator:
    return page.locator(f'#compare [data-do="{name}"]')


def cards(page: Page) -> Locator:
    return page.locator("#compare .card")


def expect_full(page: Page, count: int) -> None:
    """Wait until every card has both pictures."""
    expect(page.locator("#compare .card .spot img")).to_have_count(2 * count)


def shown(page: Page, other_than: str = "") -> str:
    """The comparison in the slider, once both of its pictures are on screen."""
    page.wait_for_function(
        """(other) => {
            const id = document.querySelector('#compare [data-state]')?.dataset.shown;
            return id && id !== other;
        }""",
        arg=other_than,
    )
    found = page.evaluate("document.querySelector('#compare [data-state]').dataset.shown")
    assert isinstance(found, str)
    return found


def row_of(studio: Studio, comparison_id: str) -> Comparison:
    with studio.database.read() as session:
        row = session.get(Comparison, comparison_id)
    assert row is not None
    return row


def set_strength(page: Page, value: float) -> None:
    part(page, "strength").evaluate(
        """(dial, value) => {
            dial.value = value;
            dial.dispatchEvent(new Event('input', { bubbles: true }));
            dial.dispatchEvent(new Event('change', { bubbles: true }));
        }""",
        str(value),
    )


def test_without_a_round_it_says_what_to_do(
    studio: Studio, open_compare: Callable[[], Page], complaints: list[str]
) -> None:
    add_starters(studio)
    page = open_compare()
    expect(part(page, "empty-title")).to_have_text("No round to compare yet")
    expect(part(page, "empty-text")).to_contain_text("start a round under Align")
    for hidden in ("stage", "cards", "own", "base"):
        expect(part(page, hidden)).to_be_hidden()
    with studio.database.write() as session:
        create_round(session, model=studio.settings.model, config={}, seed=0)
    expect(part(page, "empty-title")).to_have_text("Round 1 is on its way")
    assert not complaints


def test_the_grid_fills_by_itself_and_the_slider_moves(
    studio: Studio, at_work: None, open_compare: Callable[[], Page], complaints: list[str]
) -> None:
    add_starters(studio)
    made = with_folder(studio, add_done_round(studio))
    page = open_compare()
    expect_full(page, 12)
    expect(part(page, "status")).to_have_text("12 comparisons")
    expect(do(page, "stop")).to_be_hidden()
    expect(part(page, "left-name")).to_have_text("Base model")
    expect(part(page, "right-name")).to_have_text("Round 1")
    first = row_of(studio, shown(page))
    assert (first.round_id, first.scale) == (made.id, 1.0)
    assert part(page, "prompt").inner_text() == first.prompt.text

    pictures = page.locator("#compare-slider img")
    expect(pictures).to_have_count(2)
    names = [str(pictures.nth(index).get_attribute("src")) for index in (0, 1)]
    for name in names:
        assert re.search(r"/[0-9a-f]{32}\.png$", name), name
        for told in (first.base_image, first.aligned_image):
            assert told.id not in name
            assert told.sha256 not in name
    sizes = [pictures.nth(index).evaluate("image => image.naturalWidth") for index in (0, 1)]
    assert sizes == [512, 512]

    knob = page.get_by_test_id("slider")
    before = knob.bounding_box()
    assert before is not None
    middle = before["y"] + before["height"] / 2
    page.mouse.move(before["x"] + before["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(before["x"] - 100, middle, steps=4)
    page.mouse.up()
    after = knob.bounding_box()
    assert after is not None
    assert before["x"] - after["x"] > 60

    do(page, "next").click()
    second = row_of(studio, shown(page, other_than=first.id))
    assert second.prompt_id != first.prompt_id
    expect(part(page, "place")).to_have_text("2 of 12")
    cards(page).nth(5).click()
    third = shown(page, other_than=second.id)
    cards(page).nth(5).press("ArrowLeft")
    shown(page, other_than=third)
    expect(cards(page).nth(4)).to_be_focused()
    part(page, "order").select_option("changed")
    expect(cards(page)).to_have_count(12)
    assert not complaints


def test_strength_draws_only_the_chosen_picture_and_comes_back_at_once(
    studio: Studio, at_work: None, open_compare: Callable[[], Page], complaints: list[str]
) -> None:
    add_starters(studio)
    with_folder(studio, add_done_round(studio))
    page = open_compare()
    expect_full(page, 12)
    full = row_of(studio, shown(page))
    set_strength(page, 0.5)
    half = row_of(studio, shown(page, other_than=full.id))
    assert (half.scale, half.prompt_id, half.seed) == (0.5, full.prompt_id, full.seed)
    assert half.base_image_id == full.base_image_id
    expect(part(page, "right-name")).to_have_text("Round 1 at strength 0.5")
    expect(part(page, "strength-told")).to_contain_text(re.compile(r"Drawn in \d+\.\d s\."))
    set_strength(page, 1)
    assert shown(page, other_than=half.id) == full.id
    set_strength(page, 0.5)
    assert shown(page, other_than=full.id) == half.id
    for value in (0.2, 1.1, 1.5):  # only the last one is waited for
        set_strength(page, value)
    expect(part(page, "right-name")).to_have_text("Round 1 at strength 1.5")
    assert row_of(studio, shown(page, other_than=half.id)).scale == 1.5
    with studio.database.read() as session:
        assert len(list(session.scalars(select(Comparison).where(Comparison.scale == 1.0)))) == 12
    do(page, "next").click()
    expect(part(page, "strength-text")).to_have_text("1.0")
    assert not complaints


def test_own_prompts_are_held_out_and_labelled_ones_are_marked(
    studio: Studio, at_work: None, open_compare: Callable[[], Page], complaints: list[str]
) -> None:
    add_starters(studio)
    label_prompts(studio, ["a red barn"])
    with_folder(studio, add_done_round(studio))
    page = open_compare()
    expect_full(page, 12)
    before = shown(page)
    expect(part(page, "own")).to_contain_text("kept for comparing for good")
    part(page, "own-prompt").fill(EARLIER)
    part(page, "own-seed").fill("77")
    part(page, "own-prompt").press("Enter")
    own = row_of(studio, shown(page, other_than=before))
    assert (own.prompt.text, own.prompt.split, own.seed) == (EARLIER, "held_out", 77)
    expect(part(page, "prompt")).to_have_text(EARLIER)
    expect(part(page, "own-prompt")).to_have_value("")
    assert page.locator("#compare b").count() == 0
    expect(cards(page).first).to_contain_text(EARLIER)

    part(page, "own-prompt").fill("a red barn")
    part(page, "own-seed").fill("3")
    part(page, "own-prompt").press("Enter")
    barn = row_of(studio, shown(page, other_than=own.id))
    assert barn.prompt.split != "held_out"
    expect(part(page, "labelled")).to_be_visible()
    expect(cards(page).first).to_contain_text("was labelled: says less")
    with studio.database.read() as session:
        earlier = find_prompt(session, EARLIER)
    assert earlier is not None
    assert not complaints


def test_any_two_sides_and_other_settings(
    studio: Studio, at_work: None, open_compare: Callable[[], Page], complaints: list[str]
) -> None:
    add_starters(studio)
    one, two = (with_folder(studio, add_done_round(studio)) for _ in range(2))
    page = open_compare()
    expect_full(page, 12)
    expect(do(page, "swap")).to_be_disabled()
    cards(page).nth(7).click()
    prompt = part(page, "prompt").inner_text()
    part(page, "base").select_option(label="Round 1")
    expect(part(page, "left-name")).to_have_text("Round 1")
    expect_full(page, 12)
    row = row_of(studio, shown(page))
    assert (row.base_round_id, row.round_id) == (one.id, two.id)
    assert row.prompt.text == prompt, "the prompt that was looked at stays"
    do(page, "swap").click()
    expect(part(page, "left-name")).to_have_text("Round 2")
    expect_full(page, 12)
    row = row_of(studio, shown(page))
    assert (row.base_round_id, row.round_id) == (two.id, one.id)

    do(page, "settings").click()
    part(page, "guidance").fill("5")
    part(page, "steps").fill("12")
    part(page, "seeds").fill("2")
    part(page, "adapter_on").select_option("both")
    page.get_by_role("button", name="Use these").click()
    expect(part(page, "settings-text")).to_have_text(
        "Guidance 5 · 12 steps · 2 seeds · adapter on both"
    )
    expect_full(page, 24)
    with studio.database.read() as session:
        made = list(session.scalars(select(Image).where(Image.guidance == 5.0)))
    assert {(image.steps, image.adapter_on) for image in made} == {(12, "both")}
    assert {image.seed for image in made} == {0, 1}
    do(page, "more").click()
    expect_full(page, 48)
    assert not complaints


def test_align_opens_the_round_that_was_pressed(
    studio: Studio,
    serve: Callable[..., Server],
    open_page: Callable[[str], Page],
    complaints: list[str],
) -> None:
    add_starters(studio)
    one, two = (with_folder(studio, add_done_round(studio)) for _ in range(2))
    page = open_page(serve([], 0).url)

    def press(made: Round) -> None:
        page.get_by_role("tab", name="Align", exact=True).click()
        card = page.locator(f"#align .round[data-round='{made.id}']")
        card.get_by_role("button", name="Compare").click()

    press(one)  # the page is not there before that
    expect(part(page, "right-name")).to_have_text("Round 1")
    expect(part(page, "round")).to_have_value(one.id)
    page.get_by_role("tab", name="Blind vote", exact=True).click()
    expect(part(page, "right-name")).to_be_hidden()
    press(two)
    expect(part(page, "right-name")).to_be_visible()
    expect(part(page, "right-name")).to_have_text("Round 2")
    assert not complaints


def test_an_own_prompt_that_something_came_between_says_so(
    studio: Studio, open_compare: Callable[[], Page], complaints: list[str]
) -> None:
    add_starters(studio)
    for _ in range(2):
        with_folder(studio, add_done_round(studio))
    page = open_compare()  # without a worker nothing gets drawn
    part(page, "own-prompt").fill(EARLIER)
    part(page, "own-prompt").press("Enter")
    expect(part(page, "own-told")).to_have_text("Drawing…")
    part(page, "base").select_option(label="Round 1")
    expect(part(page, "own-told")).to_contain_text("Not shown: something else was asked for")
    part(page, "own-prompt").press("Enter")
    expect(part(page, "own-told")).to_have_text("Drawing…")
    assert not complaints


def test_a_job_that_fails_is_told_in_a_sentence_and_can_be_tried_again(
    studio: Studio, at_work: None, open_compare: Callable[[], Page], complaints: list[str]
) -> None:
    add_starters(studio)
    made = add_done_round(studio)
    page = open_compare()
    expect(part(page, "warning")).to_contain_text("is missing; train its round again")
    with_folder(studio, made)
    do(page, "begin").click()
    expect_full(page, 12)
    expect(part(page, "warning")).to_be_hidden()
    assert not complaints


def test_while_a_round_trains_it_says_so_and_waits(
    studio: Studio, open_compare: Callable[[], Page], complaints: list[str]
) -> None:
    add_starters(studio)
    add_done_round(studio)
    with studio.database.write() as session:
        create_round(session, model=studio.settings.model, config={}, seed=0)
    page = open_compare()
    expect(part(page, "status")).to_contain_text("Round 2 is training")
    expect(do(page, "draw")).to_have_text("Draw 12 comparisons")
    assert studio.engine.unfinished("comparisons") == []
    do(page, "draw").click()
    expect(do(page, "stop")).to_be_visible()
    assert len(studio.engine.unfinished("comparisons")) == 1
    do(page, "stop").click()
    expect(do(page, "draw")).to_be_visible()
    assert studio.engine.unfinished("comparisons") == []
    assert not complaints


def test_on_a_phone_nothing_is_wider_than_the_screen(
    studio: Studio,
    context: BrowserContext,
    at_work: None,
    open_compare: Callable[[], Page],
    complaints: list[str],
) -> None:
    add_starters(studio)
    with_folder(studio, add_done_round(studio))
    page = open_compare()
    expect_full(page, 12)
    shown(page)
    page.set_viewport_size({"width": 390, "height": 844})
    cards(page).nth(3).tap()
    expect(part(page, "prompt")).to_have_text(held_out_starters()[3])
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = page.locator("#compare-slider").bounding_box()
    assert box is not None
    assert box["width"] > 340
    assert abs(box["width"] - box["height"]) < 4
    assert not complaints
