"""Voting blind by keyboard: what is stored, and that the browser learns nothing of the sides."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image as Pillow
from PIL import ImageChops
from playwright.sync_api import Page, Response, expect
from sqlalchemy import func, select

from inpo_studio.studio import Studio
from inpo_studio.studio.compare.trials import cast_vote, start_trial
from storage.schema import Choice, Trial, TrialItem, Vote
from storage.trials import list_trials, trial_items
from tests.browser.picking import KEYS
from tests.studio.trial_rows import add_held_out, draw_items
from tests.studio.workspace import add_done_round

pytestmark = pytest.mark.browser

BLIND = "#blind-vote .blind"
RESULT = f"{BLIND} [data-in=result]"


class Log:
    """Everything that came over the network."""

    def __init__(self, page: Page) -> None:
        self.responses: list[Response] = []
        page.on("response", lambda response: self.responses.append(response))

    def bodies(self) -> list[tuple[str, dict[str, str], bytes]]:
        found = []
        for response in self.responses:
            try:
                found.append((response.url, response.all_headers(), response.body()))
            except Exception:  # what a reload cut off has no body
                found.append((response.url, response.all_headers(), b""))
        return found


@pytest.fixture
def blind_page(
    serve: Callable[..., Any], studio: Studio, open_page: Callable[[str], Page]
) -> Callable[[], Page]:
    """blind_page() -> a page on which the blind vote is open."""

    def open_it() -> Page:
        page = open_page(serve(["a red barn"], 2).url)
        show(page)
        return page

    return open_it


def show(page: Page) -> None:
    page.get_by_role("tab", name="Compare", exact=True).click()
    page.get_by_role("tab", name="Blind vote", exact=True).click()


def wait_for(page: Page, mode: str) -> None:
    expect(page.locator(BLIND)).to_have_attribute("data-mode", mode, timeout=30_000)


def ticket(page: Page) -> str:
    return page.locator(BLIND).get_attribute("data-ticket") or ""


def next_ticket(page: Page, other_than: str = "") -> str:
    """The item on screen, once it is painted."""
    page.wait_for_function(
        """([blind, other]) => {
            const root = document.querySelector(blind);
            return root.dataset.ticket && root.dataset.ticket !== other;
        }""",
        arg=[BLIND, other_than],
    )
    return ticket(page)


def press(page: Page, choice: str) -> None:
    """Press a key and wait until the page is done with it."""
    before = next_ticket(page)
    page.keyboard.press(KEYS[choice])
    page.wait_for_function(
        """([blind, before]) => {
            const root = document.querySelector(blind);
            return root.dataset.ticket !== before
                && (root.dataset.mode !== "voting" || root.dataset.ticket);
        }""",
        arg=[BLIND, before],
    )


def saved(page: Page) -> None:
    expect(page.locator(f"{BLIND} [data-is=mark]")).to_have_attribute("data-state", "saved")


def the_trial(studio: Studio) -> Trial:
    with studio.database.read() as session:
        return list_trials(session, studio.settings.model)[-1]


def items(studio: Studio) -> list[TrialItem]:
    trial = the_trial(studio)
    with studio.database.read() as session:
        return trial_items(session, trial.id)


def votes(studio: Studio) -> list[Vote]:
    """Live votes in the order they were cast."""
    with studio.database.read() as session:
        query = select(Vote).where(Vote.undone_at.is_(None)).order_by(Vote.position)
        return list(session.scalars(query))


def aligned_side(page: Page, studio: Studio) -> str:
    """Where the aligned picture is on screen, by its pixels."""
    shown = page.evaluate(
        """(blind) => {
            const image = document.querySelector(`${blind} [data-is=left] img`);
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            canvas.getContext("2d").drawImage(image, 0, 0);
            return canvas.toDataURL("image/png").split(",")[1];
        }""",
        BLIND,
    )
    with Pillow.open(io.BytesIO(base64.b64decode(shown))) as opened:
        left = opened.convert("RGB")
    for item in items(studio):
        drawn = item.comparison
        for side, image in (
            ("left", drawn.aligned_image if drawn else None),
            ("right", drawn.base_image if drawn else None),
        ):
            if image is not None:
                with Pillow.open(studio.files.image_path(image.sha256)) as stored:
                    if ImageChops.difference(left, stored.convert("RGB")).getbbox() is None:
                        return side
    raise AssertionError("an unknown picture is on screen")


class Voter:
    """Presses keys and remembers what should be in the database."""

    def __init__(self, page: Page, studio: Studio) -> None:
        self.page, self.studio = page, studio
        self.expected: list[tuple[str, str]] = []

    def choose(self, choice: str, flip: bool = False) -> None:
        next_ticket(self.page)
        if flip:
            before = aligned_side(self.page, self.studio)
            self.page.keyboard.press("f")
            assert aligned_side(self.page, self.studio) != before
        side = aligned_side(self.page, self.studio)
        press(self.page, choice)
        self.expected.append((choice, side))

    def undo(self) -> None:
        expect(self.page.locator(f"{BLIND} [data-do=undo]").first).to_be_enabled()
        before = ticket(self.page)
        self.page.keyboard.press("Backspace")
        self.expected.pop()
        next_ticket(self.page, other_than=before)

    def finish(self) -> None:
        while self.page.locator(BLIND).get_attribute("data-mode") == "voting":
            self.choose("left")
        wait_for(self.page, "complete")


def test_ten_votes_by_keyboard(
    blind_page: Callable[[], Page], studio: Studio, complaints: list[str]
) -> None:
    page = blind_page()
    wait_for(page, "empty")
    expect(page.locator(f"{BLIND} [data-is=empty-title]")).to_have_text("No round to judge yet")
    add_done_round(studio)
    add_held_out(studio)
    wait_for(page, "setup")
    page.locator(f"{BLIND} [data-is=planned]").select_option("10")
    expect(page.locator(f"{BLIND} [data-is=needed]")).to_contain_text("9 wins are needed")
    page.locator(f"{BLIND} [data-call=start]").click()
    wait_for(page, "preparing")
    trial = the_trial(studio)
    draw_items(studio, trial.id, 2)
    wait_for(page, "voting")
    voter = Voter(page, studio)
    voter.choose("left")
    voter.choose("right", flip=True)
    draw_items(studio, trial.id)
    for choice in ("tie", "both_bad", "skip"):
        voter.choose(choice)
    voter.undo()  # the skip is taken back, and becomes a vote
    voter.choose("right")
    page.keyboard.press("z")
    expect(page.locator(BLIND)).to_have_class("picker blind st-page zoomed")
    voter.choose("skip")
    saved(page)
    draw_items(studio, trial.id)
    page.reload()
    show(page)
    wait_for(page, "voting")
    next_ticket(page)
    voter.undo()  # what was pressed before the reload
    voter.choose("tie")
    expect(page.locator(f"{BLIND} [data-is=count]")).to_have_text("6 of 10 votes")
    voter.finish()
    voter.undo()
    voter.choose("right")
    wait_for(page, "complete")
    check_result(page, studio, voter.expected)
    assert not complaints


def check_result(page: Page, studio: Studio, expected: list[tuple[str, str]]) -> None:
    page.locator(f"{BLIND} [data-in=complete] [data-call=look]").click()
    wait_for(page, "result")
    assert [(vote.choice, vote.aligned_side) for vote in votes(studio)] == expected
    assert len(expected) == 10
    assert {vote.annotator for vote in votes(studio)} == {"me"}
    wins = sum(choice == side for choice, side in expected)
    ties = sum(choice in ("tie", "both_bad") for choice, _ in expected)
    counts = page.locator(f"{RESULT} [data-is=counts]")
    expect(counts).to_contain_text(
        f"Round 1 won {wins}, the base model won {10 - ties - wins}, {ties} ties"
    )
    expect(page.locator(f"{RESULT} [data-is=test]")).to_have_text("Exact test")
    page.locator(f"{RESULT} .reveal summary").click()
    expect(page.locator(f"{RESULT} figure")).to_have_count(10)
    won = page.locator(f"{RESULT} figure .side.won span").all_inner_texts()
    assert won.count("Round 1") == wins
    with studio.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Choice)) == 0, "votes only"


def test_the_browser_learns_nothing_of_the_sides(
    blind_page: Callable[[], Page], studio: Studio, complaints: list[str]
) -> None:
    add_held_out(studio)
    trial = start_trial(studio, add_done_round(studio).id, planned=24)
    draw_items(studio, trial.id)
    page = blind_page()
    log = Log(page)
    page.reload()  # from the first byte on
    show(page)
    wait_for(page, "setup")
    page.locator(f"{BLIND} .past button").first.click()
    truth: dict[str, str] = {}
    sources = []
    for index in range(24):
        name = next_ticket(page)
        truth[name] = aligned_side(page, studio)
        sources.append(page.content())
        press(page, ("left", "right", "tie")[index % 3])
    wait_for(page, "complete")
    sources.append(page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])"))

    secrets = secrets_of(studio)
    for url, headers, body in log.bodies():
        for text in (url, json.dumps(headers)):
            assert not [name for name in secrets if name in text], url
        assert not [name for name in secrets if name.encode() in body], url
    assert not [name for source in sources for name in secrets if name in source]

    served: dict[str, dict[str, str]] = {}
    for url, _, body in log.bodies():
        if "component_server" in url and body:
            served |= {one["ticket"]: one for one in json.loads(body).get("items", [])}
    assert set(truth) <= set(served)
    tokens = [one[part] for one in served.values() for part in ("ticket", "left", "right")]
    assert len(set(tokens)) == len(tokens)
    pictures = {
        url.rsplit("/", 1)[1]: (headers, body)
        for url, headers, body in log.bodies()
        if "/blind/" in url
    }
    assert len({json.dumps(sorted(headers)) for headers, _ in pictures.values()}) == 1
    for headers, _ in pictures.values():
        assert headers["cache-control"] == "no-store"
        assert not {"etag", "last-modified", "content-disposition"} & set(headers)
    hits: dict[str, int] = {}
    for index, (name, side) in enumerate(truth.items()):
        left, right = served[name]["left"], served[name]["right"]
        assert len(pictures[left][1]) == len(pictures[right][1])
        order = list(pictures)
        guesses = {
            "always left": True,
            "smaller token": left < right,
            "loaded first": order.index(left) < order.index(right),
            "in turn": index % 2 == 0,
        }
        for rule, guess in guesses.items():
            hits[rule] = hits.get(rule, 0) + (("left" if guess else "right") == side)
    # A fair coin falls on one side 22 times or more out of 24 once in 28,000 runs.
    assert all(2 <= count <= 22 for count in hits.values()), hits
    assert not complaints


def secrets_of(studio: Studio) -> set[str]:
    """What could be looked up elsewhere: ids, hashes and seeds of the trial's pictures."""
    found = {the_trial(studio).id}
    for item in items(studio):
        drawn = item.comparison
        assert drawn is not None
        found |= {str(item.seed)} if item.seed > 10**7 else set()
        for image in (drawn.base_image, drawn.aligned_image):
            found |= {drawn.id, image.id, image.sha256}
    return found


def test_a_look_before_the_end_uses_the_other_test(
    blind_page: Callable[[], Page], studio: Studio, complaints: list[str]
) -> None:
    add_held_out(studio)
    trial = start_trial(studio, add_done_round(studio).id, planned=12)
    draw_items(studio, trial.id)
    for position in range(9):
        cast_vote(
            studio,
            key=f"k{position}",
            trial_id=trial.id,
            item_position=position,
            choice="left",
            aligned_side="left",
            annotator="me",
        )
    page = blind_page()
    page.locator(f"{BLIND} .past button").first.click()
    next_ticket(page)
    page.locator(f"{BLIND} [data-call=peek]").click()
    expect(page.locator(f"{BLIND} .peek")).to_contain_text("anytime-valid test")
    page.locator(f"{BLIND} .peek [data-call=look]").click()
    wait_for(page, "result")
    expect(page.locator(f"{RESULT} [data-is=verdict]")).to_have_text("Better")
    expect(page.locator(f"{RESULT} [data-is=test]")).to_have_text("Anytime-valid test")
    expect(page.locator(f"{RESULT} [data-is=why]")).to_contain_text("Ramdas")
    expect(page.locator(f"{RESULT} .reveal")).to_be_hidden()
    page.locator(f"{RESULT} [data-call=resume]").click()
    next_ticket(page)
    page.keyboard.press("Backspace")  # what was seen stays
    for _ in range(3):
        press(page, "tie")
    wait_for(page, "complete")
    page.locator(f"{BLIND} [data-in=complete] [data-call=look]").click()
    wait_for(page, "result")
    expect(page.locator(f"{RESULT} [data-is=counts]")).to_contain_text("Round 1 won 9")
    page.locator(f"{RESULT} [data-call=more]").click()
    wait_for(page, "preparing")
    draw_items(studio, trial.id)
    wait_for(page, "voting")
    expect(page.locator(f"{BLIND} [data-is=count]")).to_have_text("12 of 22 votes")
    assert not complaints


def test_no_vote_is_lost_or_doubled_while_the_studio_is_away(
    serve: Callable[..., Any], studio: Studio, open_page: Callable[[str], Page]
) -> None:
    add_held_out(studio)
    trial = start_trial(studio, add_done_round(studio).id, planned=6)
    draw_items(studio, trial.id)
    server = serve(["a red barn"], 2)
    page = open_page(server.url)
    show(page)
    page.locator(f"{BLIND} .past button").first.click()
    press(page, "left")
    press(page, "right")
    saved(page)
    server.kill()
    press(page, "tie")
    warning = page.locator(f"{BLIND} [data-is=warning]")
    expect(warning).to_contain_text("kept in this browser")
    server.start()
    expect(page.locator(f"{BLIND} [data-is=mark]")).to_have_attribute(
        "data-state", "saved", timeout=60_000
    )
    expect(warning).to_be_hidden(timeout=30_000)
    expect(page.locator(f"{BLIND} [data-is=count]")).to_have_text("3 of 6 votes", timeout=30_000)
    while page.locator(BLIND).get_attribute("data-mode") == "voting":
        press(page, "left")
    wait_for(page, "complete")
    saved(page)
    stored = votes(studio)
    assert [vote.choice for vote in stored] == ["left", "right", "tie", "left", "left", "left"]
    assert sorted(vote.item_position for vote in stored) == list(range(6))

    # beside a result, too, the warning goes when there is an answer again
    page.locator(f"{BLIND} [data-in=complete] [data-call=look]").click()
    wait_for(page, "result")
    page.route("**/component_server/**", lambda route: route.abort())
    page.locator(f"{RESULT} [data-call=more]").click()
    expect(warning).to_have_text("The studio does not answer.")
    page.unroute("**/component_server/**")
    expect(warning).to_be_hidden()
    wait_for(page, "result")
