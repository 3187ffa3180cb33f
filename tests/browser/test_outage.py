"""The studio dies in mid-labelling and comes back: nothing is lost, nothing is there twice."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from inpo_studio.studio import Studio
from tests.browser.picking import KEYS, PICKER, on_screen, rows, wait_saved

pytestmark = pytest.mark.browser

AWAY_S = 10.0 if os.environ.get("CI") == "true" else 4.0


def test_nothing_is_lost_while_the_studio_is_away(
    serve: Callable[..., Any], studio: Studio, open_page: Callable[[str], Page]
) -> None:
    server = serve(["a red barn", "a lighthouse"], 30)
    page = open_page(server.url)
    pressed: list[tuple[str, str]] = []

    def press(choice: str) -> None:
        seen = on_screen(page)
        page.keyboard.press(KEYS[choice])
        pressed.append((seen.pair, choice))

    for choice in ("left", "right", "tie"):
        press(choice)
        on_screen(page, other_than=pressed[-1][0])
    wait_saved(page)
    # what is pressed while it is away needs pairs whose pictures are there
    page.wait_for_function(
        "(picker) => Number(document.querySelector(picker).dataset.ahead) >= 6", arg=PICKER
    )
    press("left")  # at the very moment it dies
    server.kill()
    died = time.monotonic()
    for choice in ("right", "left", "both_bad"):
        on_screen(page, other_than=pressed[-1][0])
        press(choice)
    on_screen(page, other_than=pressed[-1][0])
    page.keyboard.press("Backspace")
    taken_back = pressed.pop()[0]
    page.wait_for_function(
        "([picker, pair]) => document.querySelector(picker).dataset.pair === pair",
        arg=[PICKER, taken_back],
    )
    press("skip")
    warning = page.locator(f"{PICKER} [data-is=warning]")
    expect(warning).to_be_visible()
    expect(warning).to_contain_text("kept in this browser")
    expect(page.locator(f"{PICKER} [data-is=mark]")).to_have_attribute("data-state", "kept")
    page.wait_for_timeout(max(0.0, 1000 * (AWAY_S - (time.monotonic() - died))))
    server.start()
    wait_saved(page, 60)
    expect(warning).to_be_hidden(timeout=30_000)
    press("left")
    on_screen(page, other_than=pressed[-1][0])
    wait_saved(page)
    live = [(row.pair, row.choice) for row in rows(studio) if not row.undone]
    assert live == pressed
    assert [row.choice for row in rows(studio) if row.undone] == ["both_bad"]
