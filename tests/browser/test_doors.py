"""What the page's rules stop in a real browser, and that its own tabs never run into them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

_TRY = """async () => {
    const broken = [];
    document.addEventListener('securitypolicyviolation', (event) => {
        broken.push(event.effectiveDirective);
    });
    const script = document.createElement('script');
    script.textContent = 'window.hurt = 1';
    document.head.append(script);
    const holder = document.createElement('div');
    holder.innerHTML = '<img src="/none.png" onerror="window.hurt = 1">'
        + '<img src="http://127.0.0.1:9/x.png"><iframe src="/config"></iframe>';
    document.body.append(holder);
    const far = document.createElement('script');
    far.src = 'http://127.0.0.1:9/x.js';
    document.head.append(far);
    await fetch('http://127.0.0.1:9/').catch(() => null);
    for (let tries = 0; tries < 100 && broken.length < 6; tries += 1) {
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return broken;
}"""


def test_tabs_open_without_complaint(
    serve: Callable[..., Any], open_page: Callable[[str], Page], complaints: list[str]
) -> None:
    page = open_page(serve(["a red barn"], 6).url)
    tabs = [one.text_content() or "" for one in page.get_by_role("tab").all()]
    assert {"Label", "Prompts", "Workspace"} <= {tab.strip() for tab in tabs}
    for name in ("Prompts", "Workspace", "Align", "Compare", "Label"):
        tab = page.get_by_role("tab", name=name, exact=True)
        if tab.count():
            tab.first.click()
            page.wait_for_timeout(500)
    page.get_by_role("tab", name="Workspace", exact=True).click()
    count = page.locator("#workspace-page [data-is=ready]")
    expect(count).to_have_text("6")
    expect(page.locator("#workspace-page [data-is=annotator]")).to_have_text("me")
    assert not complaints


def test_what_is_slipped_into_a_page_cannot_run_or_call_out(
    serve: Callable[..., Any], open_page: Callable[[str], Page]
) -> None:
    page = open_page(serve(["a red barn"], 2).url)
    broken = page.evaluate(_TRY)
    assert page.evaluate("window.hurt") is None
    assert {"connect-src", "img-src", "script-src-elem", "frame-src"} <= set(broken)
    assert "script-src-attr" in broken


def test_other_pages_of_this_machine_get_nothing(
    serve: Callable[..., Any], open_page: Callable[[str], Page]
) -> None:
    """A page of another port: it may link here, and neither frame, read nor show what is here."""
    ours, other = serve(["a red barn"], 2), serve(["a lighthouse"], 2)
    page = open_page(other.url)
    asked: list[int] = []
    page.on(
        "response",
        lambda answer: asked.append(answer.status) if answer.url.startswith(ours.url) else None,
    )
    # its own rules would stop it first: a page without rules, from that other port
    page.route("**/blank", lambda route: route.fulfill(body="<p>hi", content_type="text/html"))
    page.goto(other.url + "blank")
    read = page.evaluate(
        """async (url) => {
            const read = await fetch(url + 'config').then((a) => a.text(), () => 'nothing');
            const blind = await fetch(url + 'config', { mode: 'no-cors' })
                .then((a) => a.type, () => 'nothing');
            const shown = await new Promise((resolve) => {
                const image = new Image();
                image.onload = () => resolve('shown');
                image.onerror = () => resolve('nothing');
                image.src = url + 'static/img/logo.svg';
            });
            return [read, blind, shown];
        }""",
        ours.url,
    )
    assert read[0] == "nothing"
    assert read[2] == "nothing"
    assert set(asked) <= {403}
    page.goto(ours.url)
    expect(page.locator("#pair-picker .picker")).to_be_visible()
