"""Reading the picker on a page, and the choices in the database."""

from __future__ import annotations

from dataclasses import dataclass

from playwright.sync_api import Page, expect
from sqlalchemy import select

from inpo_studio.studio import Studio
from storage.schema import Choice

KEYS = {
    "left": "ArrowLeft",
    "right": "ArrowRight",
    "tie": "ArrowUp",
    "both_bad": "ArrowDown",
    "skip": "Space",
}
PICKER = "#pair-picker .picker"


@dataclass(frozen=True)
class OnScreen:
    """What a person sees: the pair and which picture is where."""

    pair: str
    left: str
    right: str


@dataclass(frozen=True)
class Row:
    """A choice in the database."""

    pair: str
    choice: str
    left: str
    right: str
    undone: bool


def on_screen(page: Page, other_than: str = "") -> OnScreen:
    """The pair on screen, once it is painted."""
    page.wait_for_function(
        """([picker, other]) => {
            const id = document.querySelector(picker)?.dataset.pair;
            return id && id !== other;
        }""",
        arg=[PICKER, other_than],
    )
    found = page.evaluate(
        """(picker) => {
            const root = document.querySelector(picker);
            const name = (side) => root.querySelector(`[data-is=${side}] img`)
                .src.split('/').pop().split('?')[0];
            return [root.dataset.pair, name('left'), name('right')];
        }""",
        PICKER,
    )
    return OnScreen(*found)


def wait_saved(page: Page, timeout_s: float = 20.0) -> None:
    """Wait until all that was pressed is durable."""
    mark = page.locator(f"{PICKER} [data-is=mark]")
    expect(mark).to_have_attribute("data-state", "saved", timeout=1000 * timeout_s)


def rows(studio: Studio) -> list[Row]:
    """All choices, undone ones too, in the order they were recorded."""
    with studio.database.read() as session:
        return [
            Row(
                found.pair_id,
                found.choice,
                found.left_image_id,
                found.right_image_id,
                found.undone_at is not None,
            )
            for found in session.scalars(select(Choice).order_by(Choice.position))
        ]
