"""Labelling by keyboard, click and touch: the database holds exactly what was pressed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect
from sqlalchemy import select

from inpo_studio.studio import Studio
from storage.rounds import set_state
from storage.schema import Choice, Pair
from tests.browser import round_rows
from tests.browser.picking import KEYS, PICKER, Row, on_screen, rows, wait_saved

pytestmark = pytest.mark.browser

PROMPTS = ["a red barn by a lake", "a lighthouse in a storm", "a field of tulips at noon"]
# 40 pairs end up labelled; "undo" takes the one before back, and it is labelled again.
_PRESSES = """
left right tie undo left both_bad skip right undo undo right right left left tie skip undo undo undo
tie left right right left both_bad left right undo right left skip tie left right left right
both_bad tie left right right left left left right tie right left skip left right right
"""


class Expected:
    """What the database should hold after the presses so far."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.live: list[int] = []

    def press(self, page: Page, what: str) -> None:
        seen = on_screen(page)
        if what == "undo":
            page.keyboard.press("Backspace")
            index = self.live.pop()
            self.rows[index] = dataclasses.replace(self.rows[index], undone=True)
            back = on_screen(page, other_than=seen.pair)
            was = self.rows[index]
            assert (back.pair, back.left, back.right) == (was.pair, was.left, was.right)
            return
        page.keyboard.press(KEYS[what])
        self.live.append(len(self.rows))
        self.rows.append(Row(seen.pair, what, seen.left, seen.right, False))
        on_screen(page, other_than=seen.pair)


def test_forty_pairs_by_keyboard(
    serve: Callable[..., Any],
    studio: Studio,
    open_page: Callable[[str], Page],
    complaints: list[str],
) -> None:
    server = serve(PROMPTS, 60)
    page = open_page(server.url)
    expected = Expected()
    for what in _PRESSES.split():
        expected.press(page, what)
    while len(expected.live) < 40:
        expected.press(page, "left")
    wait_saved(page)
    assert rows(studio) == expected.rows
    assert len({expected.rows[index].pair for index in expected.live}) == len(expected.live) >= 40
    with studio.database.read() as session:
        stored = list(session.scalars(select(Choice)))
        assert {choice.annotator for choice in stored} == {"me"}
        assert all(choice.milliseconds is not None for choice in stored)
        sides = {choice.left_image_id == choice.pair.first_image_id for choice in stored}
    assert sides == {True, False}
    assert not complaints

    # Undo goes on after a restart of the studio and a reload of the page.
    server.kill()
    server.start()
    page.goto(server.url)
    on_screen(page)
    undo = page.locator(f"{PICKER} [data-do=undo]")
    expect(undo).to_be_enabled()
    for _ in range(25):
        expect(undo).to_be_enabled()
        expected.press(page, "undo")
    wait_saved(page)
    assert rows(studio) == expected.rows


def test_click_touch_flip_and_zoom(
    serve: Callable[..., Any],
    studio: Studio,
    open_page: Callable[[str], Page],
    complaints: list[str],
) -> None:
    page = open_page(serve(PROMPTS, 12).url)
    first = on_screen(page)
    page.keyboard.press("f")
    flipped = on_screen(page)
    assert (flipped.pair, flipped.left, flipped.right) == (first.pair, first.right, first.left)
    page.keyboard.press("z")
    expect(page.locator(PICKER)).to_have_class("picker zoomed")
    sizes = [
        page.locator(f"{PICKER} [data-is={side}] img").bounding_box() for side in ("left", "right")
    ]
    assert sizes[0] is not None
    assert sizes[1] is not None
    assert sizes[0]["width"] == sizes[1]["width"] > 600
    page.keyboard.press("z")
    page.locator(f"{PICKER} [data-do=left]").click()
    second = on_screen(page, other_than=first.pair)
    page.locator(f"{PICKER} [data-do=tie]").tap()
    third = on_screen(page, other_than=second.pair)
    page.keyboard.press("ArrowRight")  # the clicks have left the keys working
    on_screen(page, other_than=third.pair)
    wait_saved(page)
    assert rows(studio) == [
        Row(first.pair, "left", flipped.left, flipped.right, False),
        Row(second.pair, "tie", second.left, second.right, False),
        Row(third.pair, "right", third.left, third.right, False),
    ]
    assert not complaints


def test_keys_elsewhere_write_nothing(
    serve: Callable[..., Any],
    studio: Studio,
    open_page: Callable[[str], Page],
    complaints: list[str],
) -> None:
    page = open_page(serve(PROMPTS, 8).url)
    first = on_screen(page)
    keys = [*KEYS.values(), "Backspace", "f", "z"]

    def press_all() -> None:
        for key in keys:
            page.keyboard.press(key)

    page.get_by_role("tab", name="Prompts", exact=True).click()
    field = page.locator("#own-prompts textarea")
    expect(field).to_be_visible()
    press_all_but_arrows = [key for key in keys if not key.startswith("Arrow")]
    for key in press_all_but_arrows:  # arrows on a tab's button change the tab
        page.keyboard.press(key)
    field.click()
    press_all()
    expect(field).to_have_value("fz")
    page.locator("#own-prompts [data-which=all]").focus()
    for key in press_all_but_arrows:
        page.keyboard.press(key)
    page.locator("#masthead").click()
    press_all()
    page.get_by_role("tab", name="Label", exact=True).click()
    summary = page.locator(f"{PICKER} summary")
    summary.focus()
    for key in press_all_but_arrows:
        page.keyboard.press(key)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Control+ArrowLeft")
    assert on_screen(page) == first
    assert rows(studio) == []
    page.get_by_role("tab", name="Workspace", exact=True).click()
    page.get_by_role("tab", name="Label", exact=True).click()
    page.wait_for_timeout(300)
    page.keyboard.press("ArrowLeft")  # back in the picker the keys act at once
    on_screen(page, other_than=first.pair)
    wait_saved(page)
    assert [row.pair for row in rows(studio)] == [first.pair]
    assert not complaints


def test_two_pages_never_get_the_same_pair(
    serve: Callable[..., Any],
    studio: Studio,
    open_page: Callable[[str], Page],
    complaints: list[str],
) -> None:
    server = serve(PROMPTS, 30)
    pages = [open_page(server.url), open_page(server.url)]
    for _ in range(10):
        for page in pages:
            page.bring_to_front()
            seen = on_screen(page)
            page.keyboard.press("ArrowLeft")
            on_screen(page, other_than=seen.pair)
    for page in pages:
        wait_saved(page)
    chosen = [row.pair for row in rows(studio)]
    assert len(chosen) == len(set(chosen)) == 20
    assert not complaints


HOSTILE = [
    "${alert(1)}",
    "{{x}} {{#each value}}{{this}}{{/each}}",
    '<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>',
    "\"quotes' and `ticks` & &lt;entities&gt; \\u0041",
    "قطة تجلس تحت شجرة",
    "a cat 🐈‍⬛ under a 🌧️",
    "${window.hurt=1}{{window.hurt}}",
]


def test_hostile_prompts_are_shown_as_typed(
    serve: Callable[..., Any],
    studio: Studio,
    open_page: Callable[[str], Page],
    complaints: list[str],
) -> None:
    page = open_page(serve(HOSTILE, len(HOSTILE)).url)
    with studio.database.read() as session:
        texts = {pair.id: pair.prompt.text for pair in session.scalars(select(Pair))}
    shown = page.locator(f"{PICKER} [data-is=prompt]")
    for index in range(len(HOSTILE)):
        seen = on_screen(page)
        assert shown.evaluate("(node) => node.textContent") == texts[seen.pair]
        assert shown.evaluate("(node) => node.children.length") == 0
        page.keyboard.press("ArrowLeft")
        if index + 1 < len(HOSTILE):
            on_screen(page, other_than=seen.pair)
    wait_saved(page)
    assert len(rows(studio)) == len(HOSTILE)
    assert page.evaluate("window.hurt") is None
    assert not complaints


def test_a_page_that_closes_before_it_could_send(
    serve: Callable[..., Any],
    studio: Studio,
    context: BrowserContext,
    open_page: Callable[[str], Page],
) -> None:
    server = serve(PROMPTS, 12)
    page = open_page(server.url)
    seen = on_screen(page)
    server.kill()
    page.keyboard.press("ArrowLeft")
    on_screen(page, other_than=seen.pair)
    page.close()
    server.start()
    again = open_page(server.url)
    on_screen(again)
    wait_saved(again)
    assert [(row.pair, row.choice) for row in rows(studio)] == [(seen.pair, "left")]


def test_a_pair_whose_picture_is_gone_can_be_skipped(
    serve: Callable[..., Any],
    studio: Studio,
    context: BrowserContext,
    open_page: Callable[[str], Page],
) -> None:
    gone: list[str] = []

    def lose_the_first(route: Route) -> None:
        name = route.request.url.split("/")[-1].split("?")[0]
        if not gone:
            gone.append(name)
        if name in gone:
            route.fulfill(status=404)
        else:
            route.continue_()

    context.route("**/pictures/*", lose_the_first)
    page = open_page(serve(PROMPTS, 8).url)
    told = page.locator(f"{PICKER} [data-is=waiting-title]")
    sentence = "A picture of this pair cannot be loaded; skip it, or reload the page."
    expect(told).to_have_text(sentence)
    expect(page.locator(f"{PICKER} .actions [data-do=tie]")).to_be_disabled()
    page.keyboard.press("ArrowUp")
    page.locator(f"{PICKER} [data-do=skip]").click()
    on_screen(page)
    expect(told).to_be_hidden()
    page.keyboard.press("Backspace")
    expect(told).to_be_visible()
    page.keyboard.press("Space")
    seen = on_screen(page)
    page.keyboard.press("ArrowLeft")
    on_screen(page, other_than=seen.pair)
    wait_saved(page)
    assert [(row.choice, row.undone) for row in rows(studio)] == [
        ("skip", True),
        ("skip", False),
        ("left", False),
    ]
    assert gone[0] in (rows(studio)[0].left, rows(studio)[0].right)


def test_what_choices_went_into(
    studio: Studio, serve: Callable[..., Any], open_page: Callable[[str], Page]
) -> None:
    round_rows.label(studio, 16, held=8)
    round_rows.add_done(studio, steps=2)
    failed = round_rows.add_round(studio)
    attempt = round_rows.begin_training(studio, failed)
    with studio.database.write() as session:
        set_state(session, failed.id, "failed", attempt=attempt, failure="Stopped.")
    round_rows.begin_training(studio, round_rows.add_round(studio))
    page = open_page(serve([], 0).url)
    expect(page.locator(f"{PICKER} [data-is=went]")).to_have_text(
        "24 choices so far: round 1 (done) learnt from 16, "
        "round 3 (running) is learning from 16, 0 are new."
    )


def test_pictures_of_choices_far_back_are_let_go(
    serve: Callable[..., Any], open_page: Callable[[str], Page], complaints: list[str]
) -> None:
    page = open_page(serve(PROMPTS, 20).url)
    picture = page.locator(f"{PICKER} [data-is=left] img")
    shown = []
    for _ in range(9):
        shown.append(on_screen(page))
        picture.evaluate("(image) => { image.kept = true; }")
        page.keyboard.press("ArrowLeft")
        on_screen(page, other_than=shown[-1].pair)
    kept = []
    for seen in reversed(shown):
        page.keyboard.press("Backspace")
        page.wait_for_function(
            "([picker, pair]) => document.querySelector(picker).dataset.pair === pair",
            arg=[PICKER, seen.pair],
        )
        assert on_screen(page) == seen
        kept.append(picture.evaluate("(image) => Boolean(image.kept)"))
    assert kept == 5 * [True] + 4 * [False]
    assert not complaints
