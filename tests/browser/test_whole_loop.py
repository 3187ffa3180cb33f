"""The studio as a newcomer meets it: `python app.py`, and the whole loop in a real browser.

The embedded model, a real worker and real rounds: label, align, compare, vote blind, adopt, and
again from the aligned model.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Page, Response, expect
from sqlalchemy import func, select

from storage.engines import Database, open_database
from storage.pairs import get_pair
from storage.rounds import list_rounds
from storage.schema import Choice, Comparison, Pair, Round, TrialItem, Vote
from tests.browser.picking import KEYS, on_screen, wait_saved

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_MS = 300_000
PRESSES = ["left", "right", "left", "tie", "right", "left", "right", "skip", "left", "right"]


class App:
    """`python app.py` on a fresh workspace."""

    def __init__(self, folder: Path) -> None:
        self.workspace = folder / "workspace"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}/"
        self.log = folder / "app.log"
        command = [sys.executable, "app.py", "--no-browser", "--workspace", str(self.workspace)]
        environment = {**os.environ, "INPO_STUDIO_LOCK_DIR": str(folder / "locks")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--port", self.url.rstrip("/").rsplit(":", 1)[1]],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )

    def wait(self) -> None:
        deadline = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(self.url, timeout=5):
                    return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.1)

    def open_database(self) -> Database:
        return open_database(f"sqlite:///{self.workspace / 'studio.db'}")

    def trainer_lives(self) -> bool:
        """Whether a training process of this studio is alive."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if "inpo_studio.training.round" in child.cmdline():
                    return child.status() != psutil.STATUS_ZOMBIE
            except psutil.Error:
                continue
        return False

    def close(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    started = App(tmp_path)
    try:
        started.wait()
        yield started
    finally:
        started.close()


@pytest.fixture
def database(app: App) -> Iterator[Database]:
    opened = app.open_database()
    yield opened
    opened.dispose()


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def label(page: Page, count: int) -> None:
    """Choose on so many pairs by keyboard, each once it is painted."""
    for number in range(count):
        seen = on_screen(page)
        page.keyboard.press(KEYS[PRESSES[number % len(PRESSES)]])
        page.wait_for_function(
            "(was) => document.querySelector('#pair-picker .picker').dataset.pair !== was",
            arg=seen.pair,
        )
    wait_saved(page)


def live_choices(database: Database) -> int:
    with database.read() as session:
        query = select(func.count(Choice.id)).where(Choice.undone_at.is_(None))
        return session.scalar(query) or 0


def rounds(database: Database) -> list[Round]:
    with database.read() as session:
        return list_rounds(session)


def policy_of(database: Database, pair_id: str) -> str | None:
    with database.read() as session:
        return get_pair(session, pair_id).adapter_id


def wait_until(what: Callable[[], bool], why: str, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(0.2)


def watched(page: Page, state: str) -> None:
    """Wait until the round on top of the Align page is in this state."""
    expect(page.locator("#align [data-is=watch]")).to_have_attribute(
        "data-state", state, timeout=PATIENCE_MS
    )


def points(page: Page) -> int:
    """How many points the curve of the training loss has on screen."""
    line = page.locator("#align [data-chart=loss] path.line").first
    return int(line.get_attribute("data-points") or 0) if line.count() else 0


def align_and_pause(page: Page, app: App) -> None:
    tab(page, "Align")
    page.locator("#align [data-is=go]").click()
    seen: set[int] = set()

    def five_points() -> bool:
        if app.trainer_lives():
            seen.add(points(page))
        return len(seen - {0}) >= 5

    wait_until(five_points, f"points seen while the training lived: {sorted(seen)}")
    act(page, "pause")
    watched(page, "paused")
    wait_until(lambda: not app.trainer_lives(), "the training goes on after the pause")
    act(page, "resume")


def act(page: Page, name: str) -> None:
    page.locator(f"#align [data-is=watch] [data-act={name}]").click()


def move_slider(page: Page) -> None:
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


def turn_dial(page: Page, database: Database) -> float:
    """Set the strength to one half; returns the seconds until the new picture is shown."""
    shown = "document.querySelector('#compare [data-state]').dataset.shown"
    before = page.evaluate(shown)
    begun = time.monotonic()
    page.locator("#compare [data-is=strength]").evaluate(
        """(dial) => {
            dial.value = 0.5;
            dial.dispatchEvent(new Event('input', { bubbles: true }));
            dial.dispatchEvent(new Event('change', { bubbles: true }));
        }"""
    )
    page.wait_for_function(f"(was) => {shown} !== was", arg=before, timeout=60_000)
    took = time.monotonic() - begun
    with database.read() as session:
        row = session.get(Comparison, page.evaluate(shown))
        assert row is not None
        assert row.scale == 0.5
    return took


def vote_blind(page: Page, database: Database) -> None:
    """Ten votes; nothing that comes over the wire meanwhile names a picture of the database."""
    said: list[str] = []

    def listen(answer: Response) -> None:
        said.append(answer.url)
        if "json" in answer.headers.get("content-type", ""):
            said.append(answer.text())
        said.extend(f"{name}: {value}" for name, value in answer.headers.items())

    page.get_by_role("tab", name="Blind vote").click()
    blind = page.locator("#blind-vote .blind")
    blind.locator("[data-is=planned]").select_option("10")
    page.on("response", listen)
    blind.locator("[data-call=start]").click()
    for number in range(10):
        expect(blind).to_have_attribute("data-mode", "voting", timeout=PATIENCE_MS)
        page.wait_for_function("document.querySelector('.blind').dataset.ticket", timeout=60_000)
        ticket = blind.get_attribute("data-ticket")
        said.append(page.content())
        page.keyboard.press(KEYS[("left", "right", "tie")[number % 3]])
        page.wait_for_function(
            "(was) => document.querySelector('.blind').dataset.ticket !== was", arg=ticket
        )
    expect(blind).to_have_attribute("data-mode", "complete", timeout=60_000)
    mark = blind.locator("[data-is=mark-done]")
    expect(mark).to_have_attribute("data-state", "saved", timeout=60_000)
    page.remove_listener("response", listen)
    with database.read() as session:
        assert session.scalar(select(func.count(Vote.id))) == 10
        drawn = [item.comparison for item in session.scalars(select(TrialItem))]
        names = {row.id for row in drawn if row is not None}
        for image in (i for row in drawn if row for i in (row.base_image, row.aligned_image)):
            names |= {image.id, image.sha256, str(image.latents_sha256)}
    everything = "\n".join(said)
    assert everything.count("/blind/") >= 20
    assert len(names) >= 10 * 7
    assert [name for name in names if name in everything] == []
    blind.locator("[data-call=look]:visible").first.click()
    expect(blind).to_have_attribute("data-mode", "result")
    expect(blind.locator("[data-is=verdict]")).to_have_text(
        re.compile("better|worse|can.t tell", re.IGNORECASE)
    )


def test_the_whole_loop_by_hand(
    app: App, database: Database, open_page: Callable[[str], Page], complaints: list[str]
) -> None:
    page = open_page(app.url)
    page.set_default_timeout(120_000)
    label(page, 40)
    assert live_choices(database) == 40

    align_and_pause(page, app)
    watched(page, "done")
    (first,) = rounds(database)
    assert first.state == "done"
    assert first.step == first.total_steps

    act(page, "compare")
    expect(page.locator("#compare [data-is=round]")).to_have_value(first.id)
    expect(page.locator("#compare .card .spot img")).to_have_count(24, timeout=PATIENCE_MS)
    move_slider(page)
    print(f"strength dial: a new picture after {turn_dial(page, database):.1f} s")
    vote_blind(page, database)
    assert live_choices(database) == 40

    tab(page, "Align")
    act(page, "adopt")
    expect(page.locator("#align [data-is=tree] article").first).to_contain_text("in use")
    tab(page, "Label")
    with database.read() as session:
        before = set(session.scalars(select(Choice.id)))
    # what the page held from before goes as soon as it has asked again
    wait_until(lambda: policy_of(database, on_screen(page).pair) == first.adapter_id, "old pairs")
    label(page, 10)
    with database.read() as session:
        query = select(Pair.adapter_id).join(Choice, Choice.pair_id == Pair.id)
        policies = session.scalars(query.where(Choice.id.not_in(before)))
        assert set(policies) == {first.adapter_id}

    tab(page, "Align")
    page.locator("#align [data-is=go]").click()
    wait_until(lambda: len(rounds(database)) == 2, "the second round was not started")
    second = rounds(database)[1]
    assert second.parent_id == first.id
    wait_until(lambda: rounds(database)[1].step >= 5, "the second round does not train")
    act(page, "finish")
    watched(page, "done")
    assert rounds(database)[1].state == "done"
    assert not complaints
