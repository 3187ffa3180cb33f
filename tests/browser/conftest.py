"""Chromium, and pages of it that must not report any error."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from inpo_studio.settings import Settings
from inpo_studio.studio import Studio, open_studio
from tests.browser.serving import Server, seed_pairs

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE_MS = 30_000
"""How long a busy machine may take for what an idle one does at once."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Chromium is missing; install it.")
        pytest.skip("needs Chromium on the PATH")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context(viewport={"width": 1440, "height": 900}, has_touch=True)
    opened.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    yield opened
    opened.close()


@pytest.fixture
def complaints() -> list[str]:
    """What pages of `open_page` complained of; empty at the end of every quiet test."""
    return []


@pytest.fixture
def open_page(context: BrowserContext, complaints: list[str]) -> Callable[[str], Page]:
    """open_page(url) -> a page whose picker has been filled or says why not."""

    def listen(page: Page, url: str) -> None:
        page.on(
            "console",
            lambda said: (
                complaints.append(f"{said.type}: {said.text}")
                if said.type in ("error", "warning")
                else None
            ),
        )
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (complaints.append("dialog"), dialog.dismiss()))
        page.on(
            "request",
            lambda asked: (
                None
                if asked.url.startswith((url, "data:", "blob:"))
                else complaints.append(f"foreign request: {asked.url}")
            ),
        )

    def open_it(url: str) -> Page:
        page = context.new_page()
        listen(page, url)
        page.goto(url)
        page.wait_for_selector("#pair-picker .picker")
        return page

    return open_it


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    opened = open_studio(Settings(workspace=tmp_path / "workspace"))
    yield opened
    opened.close()


@pytest.fixture
def serve(studio: Studio) -> Iterator[Callable[..., Server]]:
    """serve(texts, count) -> a running server of a workspace with such pairs."""
    servers: list[Server] = []

    def start(texts: list[str], count: int) -> Server:
        seed_pairs(studio, texts, count)
        server = Server(studio.settings.workspace)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.kill()
