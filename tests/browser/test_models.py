"""The model card in a real browser: look, sizes, fetch, stop, go on, change, and change back."""

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
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import func, select

from storage.engines import open_database
from storage.schema import Choice, Pair
from tests.browser.picking import on_screen, wait_saved
from tests.hub_server import Hub, running_hub

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
CARD = "#model-card"
SHAPES = {"desk": (1440, 900), "phone": (390, 844)}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub that the studio's own process asks."""
    with running_hub() as server:
        for name, value in server.environment(tmp_path / "hf").items():
            monkeypatch.setenv(name, value)
        yield server


def is_in(page: Page, name: str) -> Any:
    return page.locator(f"{CARD} [data-is={name}]")


def press(page: Page, name: str) -> None:
    page.locator(f"{CARD} [data-do={name}]").click()


def open_workspace(page: Page) -> None:
    page.get_by_role("tab", name="Workspace", exact=True).click()
    expect(is_in(page, "name")).not_to_have_text("\u00a0")


def look_at(page: Page, name: str) -> None:
    is_in(page, "typed").fill(name)
    press(page, "look")


def test_a_model_is_fetched_with_its_progress_and_changed_to(
    hub: Hub,
    serve: Callable[..., Any],
    open_page: Callable[[str], Page],
    complaints: list[str],
    tiny_model: Callable[[str], Path],
) -> None:
    hub.add("small/sdxl", tiny_model("sdxl"))
    hub.bytes_per_s = 400_000
    page = open_page(serve(["a red barn"], 3).url)
    open_workspace(page)
    expect(is_in(page, "name")).to_have_text("postcards")
    expect(is_in(page, "title")).to_contain_text("128×128, one text encoder, ε-prediction")
    expect(is_in(page, "plan")).to_contain_text("at once")
    expect(page.locator("#workspace-page [data-is=ready]")).to_have_text("3")
    press(page, "open")
    look_at(page, "small/sdxl")
    expect(is_in(page, "found-title")).to_have_text(
        "Stable Diffusion XL, 64×64, two text encoders, ε-prediction"
    )
    expect(is_in(page, "found-sizes")).to_have_text(
        re.compile(r"^\d\.\d MB in 14 files; free on disk: [\d.]+ GB\.$")
    )
    expect(is_in(page, "found-fits")).to_have_text("fits this machine")
    assert not [name for name in hub.sent if name.endswith(".safetensors")]
    press(page, "fetch")
    expect(is_in(page, "fetch-head")).to_have_text("Fetching small/sdxl")
    expect(is_in(page, "fetch-figures")).to_contain_text("KB/s")
    page.reload()
    open_workspace(page)
    expect(is_in(page, "fetch-head")).to_have_text("Fetching small/sdxl")
    press(page, "stop")
    expect(is_in(page, "fetch-head")).to_have_text("Stopped fetching small/sdxl")
    expect(is_in(page, "name")).to_have_text("postcards")
    hub.bytes_per_s = None
    press(page, "go-on")
    expect(is_in(page, "told")).to_have_text("This studio now works with small/sdxl.")
    expect(is_in(page, "name")).to_have_text("small/sdxl")
    expect(page.locator("#workspace-page [data-is=ready]")).to_have_text("0")
    press(page, "open")
    page.get_by_role("button", name="Look at postcards").click()
    expect(is_in(page, "found-sizes")).to_contain_text("on this machine; nothing to fetch.")
    press(page, "use")
    expect(is_in(page, "told")).to_have_text("This studio now works with postcards.")
    expect(page.locator("#workspace-page [data-is=ready]")).to_have_text("3")
    assert not complaints


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_refusals_stand_where_one_looks_and_nothing_jumps(
    shape: str,
    scheme: str,
    hub: Hub,
    serve: Callable[..., Any],
    open_page: Callable[[str], Page],
    complaints: list[str],
    tiny_model: Callable[[str], Path],
) -> None:
    hub.add("shut/one", tiny_model("sd15"), gated=True)
    page = open_page(serve(["a red barn"], 1).url)
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    width, height = SHAPES[shape]
    page.set_viewport_size({"width": width, "height": height})
    open_workspace(page)
    expect(is_in(page, "plan")).to_contain_text("at once")
    press(page, "open")
    before = page.locator(f"{CARD} [data-do=look]").bounding_box()
    hostile = "<img src=x onerror=window.hurt=1>/${alert(1)}"
    for name, words in (
        ("shut/one", "is gated: accept its terms at https://huggingface.co/shut/one"),
        ("no/model", "There is no model 'no/model' on the Hub that you may see"),
        (hostile, "There is no model at '<img src=x onerror=window.hurt=1>/${alert(1)}'"),
    ):
        look_at(page, name)
        expect(is_in(page, "refused")).to_contain_text(words)
        assert page.locator(f"{CARD} [data-do=look]").bounding_box() == before
    expect(is_in(page, "found")).to_be_hidden()
    assert page.evaluate("window.hurt") is None
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert not complaints


class Started:
    """`inpo-studio serve` with its worker, on one workspace."""

    def __init__(self, folder: Path) -> None:
        self.workspace = folder / "workspace"
        self.log = folder / "app.log"
        self._locks = folder / "locks"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}/"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "app.py", "--no-browser", "--workspace", str(self.workspace)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self._port)],
                cwd=ROOT,
                env={
                    **os.environ,
                    "INPO_STUDIO_LOCK_DIR": str(self._locks),
                    "INPO_STUDIO_KEEP_READY": "4",
                    "INPO_STUDIO_DEVICE": "cpu",
                },
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(self.url, timeout=5):
                    return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.1)

    def close(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def counts(self) -> dict[str, tuple[int, int]]:
        """Of each model, its pairs and its choices."""
        database = open_database(f"sqlite:///{self.workspace / 'studio.db'}")
        pairs = select(Pair.model, func.count()).group_by(Pair.model)
        choices = select(Pair.model, func.count()).join(Choice.pair).group_by(Pair.model)
        with database.read() as session:
            made = {row[0]: row[1] for row in session.execute(pairs)}
            chosen = {row[0]: row[1] for row in session.execute(choices)}
        database.dispose()
        return {model: (count, chosen.get(model, 0)) for model, count in made.items()}


@pytest.fixture
def app(tmp_path: Path, hub: Hub) -> Iterator[Started]:
    started = Started(tmp_path)
    try:
        started.start()
        yield started
    finally:
        started.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_pairs_of_a_fetched_model_are_made_labelled_and_left_alone(
    app: Started,
    hub: Hub,
    open_page: Callable[[str], Page],
    complaints: list[str],
    tiny_model: Callable[[str], Path],
) -> None:
    hub.add("small/sd15", tiny_model("sd15"))
    page = open_page(app.url)
    page.set_default_timeout(120_000)
    seen = on_screen(page)
    page.keyboard.press("ArrowLeft")
    wait_saved(page)
    open_workspace(page)
    press(page, "open")
    look_at(page, "small/sd15")
    press(page, "fetch")
    expect(is_in(page, "told")).to_have_text(
        "This studio now works with small/sd15.", timeout=90_000
    )
    page.get_by_role("tab", name="Label", exact=True).click()
    other = on_screen(page, other_than=seen.pair)
    page.keyboard.press("ArrowRight")
    wait_saved(page)
    counts = app.counts()
    assert counts["postcards"][1] == 1
    assert counts["small/sd15"][1] == 1
    assert not complaints
    app.close()
    app.start()
    page.goto(app.url)
    page.wait_for_selector("#pair-picker .picker")
    assert on_screen(page).pair != other.pair
    open_workspace(page)
    expect(is_in(page, "name")).to_have_text("small/sd15")
    expect(page.locator("#workspace-page [data-is=choices]")).to_have_text("1")
    press(page, "open")
    page.get_by_role("button", name="Look at postcards").click()
    press(page, "use")
    expect(is_in(page, "told")).to_have_text("This studio now works with postcards.")
    expect(page.locator("#workspace-page [data-is=choices]")).to_have_text("1")
    page.get_by_role("tab", name="Label", exact=True).click()
    assert on_screen(page).pair not in (seen.pair, other.pair)
    assert not [said for said in complaints if "fetch" not in said and "net::" not in said]
