"""The blind vote's server side: who may call it, and that nothing it says tells the sides apart."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import fastapi
import httpx
import pytest
from PIL import Image as Pillow
from PIL import ImageChops
from starlette.testclient import TestClient

from inpo_studio.studio import Studio
from inpo_studio.studio.compare.trials import start_trial, trial_progress
from inpo_studio.ui.blind.route import add_blind_pictures
from inpo_studio.ui.blind.serving import server_functions
from inpo_studio.ui.blind.tickets import MOST_PICTURES, Tickets, disguise
from inpo_studio.ui.doors import USER
from storage.comparisons import list_comparisons
from storage.rounds import claim_attempt, create_round
from storage.schema import Comparison, Trial, TrialItem
from storage.trials import list_trials, trial_items
from storage.votes import live_votes
from tests.studio.trial_rows import add_held_out, draw_items
from tests.studio.workspace import add_done_round


class Page:
    """Calls the server functions as the page of a user does."""

    def __init__(self, studio: Studio, tickets: Tickets, user: str = "me") -> None:
        self.functions = {f.__name__: f for f in server_functions(studio, tickets)}
        self.scope = {"type": "http", USER: user}
        self.said: list[str] = []

    def __call__(self, name: str, **data: Any) -> dict[str, Any]:
        message = {"page": "one", "studio": "", **data}
        answer = self.functions[name](message, SimpleNamespace(scope=self.scope))
        self.said.append(json.dumps(answer))
        return answer


@pytest.fixture
def tickets() -> Tickets:
    return Tickets()


@pytest.fixture
def page(studio: Studio, tickets: Tickets) -> Page:
    return Page(studio, tickets)


@pytest.fixture
def client(tickets: Tickets) -> Iterator[httpx.Client]:
    app = fastapi.FastAPI()
    add_blind_pictures(app, tickets)

    async def as_user(scope: Any, receive: Any, send: Any) -> None:
        name = dict(scope.get("headers", [])).get(b"x-test-user", b"me").decode()
        await app({**scope, USER: name}, receive, send)

    with TestClient(as_user, base_url="http://127.0.0.1") as opened:
        yield opened


@pytest.fixture
def trial(studio: Studio) -> Trial:
    add_held_out(studio)
    made = start_trial(studio, add_done_round(studio).id, planned=24)
    draw_items(studio, made.id)
    return made


def items_of(page: Page, want: int = 12) -> list[dict[str, str]]:
    found = page("next_items", trial=1, holding=[], want=want)
    assert "items" in found, found
    return found["items"]


def cast(page: Page, shown: dict[str, str], **more: Any) -> dict[str, Any]:
    values = {
        "key": uuid4().hex,
        "trial": 1,
        "ticket": shown["ticket"],
        "choice": "left",
        "left": shown["left"],
        "milliseconds": 321,
    }
    return page("cast", **{**values, **more})


def names_of(studio: Studio) -> set[str]:
    """Every id and hash of what is compared."""
    found: set[str] = set()
    with studio.database.read() as session:
        for trial in list_trials(session, studio.settings.model):
            found |= {trial.id, trial.round_id}
            found |= {str(item.seed) for item in trial_items(session, trial.id)}
        for row in list_comparisons(session):
            found |= {row.id, row.adapter_id or trial.id, row.prompt_id}
            for image in (row.base_image, row.aligned_image):
                found |= {image.id, image.sha256}
    return found


def pixels(content: bytes) -> Pillow.Image:
    with Pillow.open(io.BytesIO(content)) as opened:
        return opened.convert("RGB")


def is_picture(studio: Studio, content: bytes, sha256: str) -> bool:
    with Pillow.open(studio.files.image_path(sha256)) as stored:
        return ImageChops.difference(pixels(content), stored.convert("RGB")).getbbox() is None


def comparisons(studio: Studio, trial: Trial) -> dict[str, list[Comparison]]:
    """By prompt, as a page sees them."""
    found: dict[str, list[Comparison]] = {}
    with studio.database.read() as session:
        for item in trial_items(session, trial.id):
            assert item.comparison is not None
            found.setdefault(item.prompt.text, []).append(item.comparison)
    return found


def aligned_is_left(
    studio: Studio, trial: Trial, shown: dict[str, str], client: httpx.Client
) -> bool:
    """What only somebody with the files can find out: which stored picture is on the left."""
    content = client.get("/blind/" + shown["left"]).content
    for row in comparisons(studio, trial)[shown["prompt"]]:
        if is_picture(studio, content, row.aligned_image.sha256):
            return True
        if is_picture(studio, content, row.base_image.sha256):
            return False
    raise AssertionError("not a picture of this trial")


def test_a_vote_lands_on_the_side_the_picture_was_on(
    studio: Studio, page: Page, trial: Trial, client: httpx.Client
) -> None:
    expected = []
    for index, shown in enumerate(items_of(page)):
        left = aligned_is_left(studio, trial, shown, client)
        if index % 2:  # flipped on the page before the press
            shown = {**shown, "left": shown["right"]}
            left = not left
        assert "saved" in cast(page, shown)
        expected.append("left" if left else "right")
    with studio.database.read() as session:
        assert [vote.aligned_side for vote in live_votes(session, trial.id)] == expected


def test_nothing_that_is_said_tells_the_sides_apart(
    studio: Studio, page: Page, trial: Trial, client: httpx.Client
) -> None:
    names = names_of(studio)
    answers = []
    for _ in range(3):
        for shown in items_of(page):
            answers += [client.get("/blind/" + shown[side]) for side in ("left", "right")]
        cast(page, items_of(page, 1)[0])
    page("look_around")
    said = "\n".join(page.said)
    assert not [name for name in names if name in said]
    tokens = [
        shown[part]
        for text in page.said
        for shown in json.loads(text).get("items", [])
        for part in ("ticket", "left", "right")
    ]
    assert len(set(tokens)) == len(tokens) > 60, "no token comes twice"
    for answer in answers:
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        assert set(answer.headers) == set(answers[0].headers)
        for header in ("etag", "last-modified", "content-disposition", "accept-ranges"):
            assert header not in answer.headers
        assert not [n for n in names if n.encode() in answer.content or n in str(answer.headers)]
    for left, right in zip(answers[::2], answers[1::2], strict=True):
        assert left.headers["content-length"] == right.headers["content-length"]


def test_every_simple_guess_is_chance(
    studio: Studio, page: Page, trial: Trial, client: httpx.Client
) -> None:
    """Rules that know tokens, order, sizes and headers, but not the pictures themselves."""
    rules = {
        "left": lambda left, right, sizes: True,
        "smaller token": lambda left, right, sizes: left < right,
        "larger last letter": lambda left, right, sizes: left[-1] > right[-1],
        "shorter file": lambda left, right, sizes: sizes[0] < sizes[1],
        "longer file": lambda left, right, sizes: sizes[0] > sizes[1],
    }
    hits = dict.fromkeys(rules, 0)
    count = 0
    for _ in range(15):
        for shown in items_of(page, 10):
            truth = aligned_is_left(studio, trial, shown, client)
            sizes = [len(client.get("/blind/" + shown[s]).content) for s in ("left", "right")]
            assert sizes[0] == sizes[1]
            for name, rule in rules.items():
                hits[name] += rule(shown["left"], shown["right"], sizes) == truth
            count += 1
    # Six standard deviations: a fair coin leaves this band once in 500 million runs.
    band = 6 * (count * 0.25) ** 0.5
    assert {name: n for name, n in hits.items() if abs(n - count / 2) > band} == {}


def test_pictures_are_the_same_pixels_in_fresh_bytes(studio: Studio, trial: Trial) -> None:
    row = next(iter(comparisons(studio, trial).values()))[0]
    paths = [studio.files.image_path(i.sha256) for i in (row.base_image, row.aligned_image)]
    assert paths[0].stat().st_size != paths[1].stat().st_size, "the files themselves do tell"
    once, again = disguise(*paths), disguise(*paths)
    assert len({len(content) for content in once}) == 1
    assert len({*once, *again, *(path.read_bytes() for path in paths)}) == 6
    for content, image in zip(once, (row.base_image, row.aligned_image), strict=True):
        assert is_picture(studio, content, image.sha256)
        assert chunk_kinds(content) == [b"IHDR", b"IDAT", b"fiLl", b"IEND"]


def chunk_kinds(png: bytes) -> list[bytes]:
    kinds, at = [], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kinds.append(png[at + 4 : at + 8])
        at += 12 + length
    return list(dict.fromkeys(kinds))


def test_metadata_of_a_picture_is_left_behind(tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    told = PngInfo()
    told.add_text("parameters", "adapter 7")
    for name in ("base", "aligned"):
        Pillow.new("RGBA", (8, 8), (9, 9, 9, 255)).save(
            tmp_path / f"{name}.png", pnginfo=told, dpi=(72, 72)
        )
    for content in disguise(tmp_path / "base.png", tmp_path / "aligned.png"):
        assert b"adapter" not in content
        assert b"pHYs" not in content


def test_strangers_get_nothing(
    studio: Studio, page: Page, tickets: Tickets, trial: Trial, client: httpx.Client
) -> None:
    shown = items_of(page, 1)[0]
    assert client.get("/blind/" + shown["left"]).status_code == 200
    other = client.get("/blind/" + shown["left"], headers={"X-Test-User": "you"})
    assert other.status_code == 404
    for wrong in ("x", "..%2Fstudio.db", "%00", shown["ticket"], "a" * 4000):
        assert client.get("/blind/" + wrong).status_code == 404
    assert client.get("/blind/unknown").headers["cache-control"] == "no-store"
    assert "refused" in cast(Page(studio, tickets, "you"), shown)
    for function in server_functions(studio, tickets):
        with pytest.raises(PermissionError):
            function({"page": "one"}, SimpleNamespace(scope={"type": "http"}))
    assert trial_progress(studio, trial.id).votes == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"choice": "best"},
        {"milliseconds": -1},
        {"ticket": "../x"},
        {"ticket": "a" * 32},
        {"left": "a" * 32},
        {"key": ""},
        {"annotator": "boss"},
        {"aligned_side": "left"},
        {"trial": "1"},
    ],
)
def test_what_is_no_vote_is_refused(
    studio: Studio, page: Page, trial: Trial, wrong: dict[str, Any]
) -> None:
    answer = cast(page, items_of(page, 1)[0], **wrong)
    assert answer["refused"].count("\n") == 0
    assert trial_progress(studio, trial.id).votes == 0


def test_votes_that_were_not_acknowledged_are_sent_again(
    studio: Studio, page: Page, trial: Trial, client: httpx.Client
) -> None:
    first, second, third = items_of(page, 3)
    assert cast(page, first, key="once") == {"saved": "once"}
    restarted = Page(studio, Tickets())
    assert cast(restarted, first, key="once") == {"saved": "once"}
    # What it was given before the restart still counts, for the side it was on.
    truth = aligned_is_left(studio, trial, second, client)
    assert cast(restarted, {**second, "left": second["right"]}, key="twice") == {"saved": "twice"}
    with studio.database.read() as session:
        side = live_votes(session, trial.id)[-1].aligned_side
    assert (side == "right") is truth
    forged = second["ticket"][:-1] + ("A" if second["ticket"][-1] != "A" else "B")
    found = restarted("next_items", trial=1, holding=[third["ticket"], forged], want=3)
    assert found["lost"] == [forged]
    assert found["progress"]["votes"] == 2
    assert client.get("/blind/" + third["left"]).status_code == 200


def test_undo_brings_the_item_back(page: Page, trial: Trial) -> None:
    shown = items_of(page, 1)[0]
    cast(page, shown, key="once")
    assert page("past_votes", trial=1) == {"keys": ["once"]}
    answer = page("take_back", key="once", again=True)
    assert answer["item"]["prompt"] == shown["prompt"]
    assert answer["item"]["left"] not in shown.values()
    assert "saved" in cast(page, answer["item"])
    assert page("take_back", key="never", again=False) == {"found": False}


def test_from_start_to_result(studio: Studio, page: Page) -> None:
    assert page("look_around")["rounds"] == []
    assert "refused" in page("start_vote", round=1)
    add_done_round(studio)
    assert "no held-out prompts" in page("start_vote", round=1)["refused"]
    add_held_out(studio, 3, "starter")
    assert page("start_vote", round=1, planned=3) == {"trial": 1}
    seen = page("look_around")
    assert seen["trials"][0]["target"] == 3
    assert (seen["prompts"], seen["own"]) == (3, 0)
    assert "no vote yet" in page("show_result", trial=1)["refused"]
    with studio.database.read() as session:
        (trial,) = list_trials(session, studio.settings.model)
    draw_items(studio, trial.id)
    shown = items_of(page)
    assert len(shown) == 3
    cast(page, shown[0])
    early = page("show_result", trial=1)
    assert (early["result"]["test"], early["pictures"]) == ("anytime", [])
    assert page("look_around")["trials"][0]["result"] is None
    cast(page, shown[1], choice="tie")
    cast(page, shown[2], choice="both_bad")
    done = page("show_result", trial=1)
    assert (done["result"]["ties"], len(done["pictures"])) == (2, 3)
    assert page("look_around")["trials"][0]["result"] == done["result"]
    assert page("add_votes", trial=1, more=2) == {"trial": 1}
    assert page("next_items", trial=1, holding=[], want=1)["progress"]["target"] == 5
    assert "refused" in page("next_items", trial=7, holding=[], want=1)


def test_why_there_is_nothing_to_vote_on_yet(studio: Studio, page: Page) -> None:
    add_held_out(studio)
    trial = start_trial(studio, add_done_round(studio).id, planned=3)

    def progress() -> dict[str, Any]:
        return page("next_items", trial=1, holding=[], want=1)["progress"]

    assert "Waiting for the worker" in progress()["note"]
    with studio.database.write() as session:
        training = create_round(session, model=studio.settings.model, config={}, seed=0)
        claim_attempt(session, training.id)
    assert progress()["note"].startswith("Round 2 is training")
    (job,) = studio.engine.unfinished("trial")
    studio.engine.cancel(job.job_id)
    assert progress()["failed"] == "Drawing the pictures was cancelled."
    assert page("draw_again", trial=1) == {"trial": 1}
    assert progress()["failed"] == ""
    draw_items(studio, trial.id)
    assert (progress()["note"], progress()["ready"]) == ("", 3)


def test_memory_is_bounded(tmp_path: Path) -> None:
    for name in ("base", "aligned"):
        Pillow.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    tickets = Tickets()
    served = [
        tickets.issue(
            "me",
            TrialItem(trial_id="t", position=index, prompt_id="p", seed=index),
            tmp_path / "base.png",
            tmp_path / "aligned.png",
        )
        for index in range(MOST_PICTURES)
    ]
    there = [tickets.picture("me", ticket.left) is not None for ticket in served]
    assert sum(there) == MOST_PICTURES // 2
    assert there[-1]


def test_a_page_of_another_workspace_keeps_its_votes(
    page: Page, trial: Trial, studio: Studio
) -> None:
    shown = items_of(page)[0]
    assert "another workspace" in cast(page, shown, studio="another")["retry"]
    with studio.database.read() as session:
        assert live_votes(session, trial.id) == []
    assert "saved" in cast(page, shown)
