"""The picker's server side over HTTP: who may call it, what it takes, and how pictures come."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest

from inpo_studio.settings import Settings
from inpo_studio.studio import Studio, open_studio
from inpo_studio.studio.label.labelling import Labelling
from inpo_studio.ui.pair_picker import server_functions
from storage.choices import live_choices, undo_choice
from storage.pairs import list_pairs, retire_pairs
from storage.prompts import list_prompts
from storage.rounds import claim_attempt, create_round, set_state
from storage.samples import add_sample
from storage.schema import Choice
from tests.browser.serving import SIDE, Server, draw
from tests.studio.workspace import add_pairs


class Page:
    """Calls the server functions as a page of its own does."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.name = uuid4().hex
        parts = client.get("/config").json()["components"]
        self.id = next(one["id"] for one in parts if one["props"].get("elem_id") == "pair-picker")

    def __call__(self, function: str, headers: dict[str, str] | None = None, **data: Any) -> Any:
        body = {
            "data": {"page": self.name, "studio": "", **data},
            "component_id": self.id,
            "fn_name": function,
            "session_hash": uuid4().hex[:10],
        }
        return self.client.post("/gradio_api/component_server/", json=body, headers=headers or {})


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    opened = open_studio(Settings(workspace=tmp_path_factory.mktemp("served") / "workspace"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(studio: Studio) -> Iterator[httpx.Client]:
    server = Server(studio.settings.workspace)
    server.start()
    with httpx.Client(base_url=server.url, timeout=30) as opened:
        yield opened
    server.kill()


@pytest.fixture
def page(studio: Studio, client: httpx.Client) -> Page:
    """A page with four open pairs to itself, and no choice of anybody's."""
    with studio.database.write() as session:
        for choice in live_choices(session):
            undo_choice(session, choice.id)
        retire_pairs(session, [pair.id for pair in list_pairs(session)])
    add_pairs(studio, 4)
    return Page(client)


def pressed(shown: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "key": uuid4().hex,
        "pair_id": shown["pair_id"],
        "choice": "left",
        "left_image_id": shown["left_image_id"],
        "right_image_id": shown["right_image_id"],
        "milliseconds": 321,
        **more,
    }


def stored(studio: Studio) -> list[Choice]:
    with studio.database.read() as session:
        return live_choices(session)


def test_a_choice_and_its_undo(page: Page, studio: Studio) -> None:
    assert page("past_choices", before=None).json()["past"] == []
    found = page("next_pairs", holding=[], want=2, standing=True).json()
    assert found["standing"]["ready"] == 4
    click = pressed(found["pairs"][0])
    for _ in range(2):
        assert page("commit_choice", **click).json() == {"saved": click["key"]}
    (row,) = stored(studio)
    assert (row.key, row.milliseconds, row.annotator) == (click["key"], 321, "me")
    (past,) = page("past_choices", before=None).json()["past"]
    assert past["key"] == click["key"]
    assert page("take_back", key=click["key"]).json() == {"found": True, "frozen_in": []}
    assert stored(studio) == []


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}]
)
def test_strangers_cannot_call_it(page: Page, studio: Studio, headers: dict[str, str]) -> None:
    shown = page("next_pairs", holding=[], want=1).json()["pairs"][0]
    for name, data in (
        ("commit_choice", pressed(shown)),
        ("next_pairs", {"holding": [], "want": 1}),
        ("take_back", {"key": "k"}),
        ("past_choices", {"before": None}),
    ):
        assert page(name, headers, **data).status_code == 403
    picture = "/pictures/" + shown["left_image_id"]
    assert page.client.get(picture, headers=headers).status_code == 403
    assert stored(studio) == []


def test_the_user_is_not_the_pages_to_say(page: Page, studio: Studio) -> None:
    shown = page("next_pairs", holding=[], want=1).json()["pairs"][0]
    assert "refused" in page("commit_choice", **pressed(shown, annotator="boss")).json()
    assert stored(studio) == []
    for function in server_functions(studio, Labelling(studio)):
        with pytest.raises(PermissionError):
            function({"page": "one"}, SimpleNamespace(scope={"type": "http"}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"choice": "best"},
        {"choice": 1},
        {"milliseconds": -1},
        {"milliseconds": 2**31},
        {"pair_id": "../etc"},
        {"pair_id": "f" * 32},
        {"left_image_id": "f" * 32},
        {"key": ""},
        {"page": "x y"},
        {"more": 1},
    ],
)
def test_what_is_no_click_is_refused(page: Page, studio: Studio, wrong: dict[str, Any]) -> None:
    shown = page("next_pairs", holding=[], want=1).json()["pairs"][0]
    answer = page("commit_choice", **pressed(shown, **wrong))
    assert answer.status_code == 200
    assert answer.json()["refused"].count("\n") == 0
    assert stored(studio) == []


def test_a_page_of_another_workspace_keeps_its_choices(page: Page, studio: Studio) -> None:
    shown = page("next_pairs", holding=[], want=1).json()["pairs"][0]
    assert "retry" in page("commit_choice", **pressed(shown, studio="another")).json()
    assert stored(studio) == []


def test_pictures_come_by_id_and_may_be_kept(page: Page) -> None:
    shown = page("next_pairs", holding=[], want=1).json()["pairs"][0]
    answer = page.client.get("/pictures/" + shown["left_image_id"])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    for wrong in ("f" * 32, "..%2F..%2Fstudio.db", "a/b", "%00", "x" * 300):
        assert page.client.get("/pictures/" + wrong).status_code == 404, wrong


def test_a_rounds_samples_come_in_the_same_way(page: Page, studio: Studio) -> None:
    with studio.database.write() as session:
        made = create_round(session, model=studio.settings.model, config={}, seed=0)
        prompt = list_prompts(session)[0]
        sample = add_sample(
            session,
            round_id=made.id,
            attempt=claim_attempt(session, made.id),
            step=0,
            position=0,
            prompt_id=prompt.id,
            seed=1,
            sha256=studio.files.put_image(draw(1)),
            width=SIDE,
            height=SIDE,
        )
        set_state(session, made.id, "failed", attempt=made.attempt, failure="Stopped.")
    answer = page.client.get("/pictures/" + sample.id)
    assert answer.status_code == 200
    assert answer.content.startswith(b"\x89PNG")
    assert "immutable" in answer.headers["cache-control"]


def test_no_prompt_is_in_the_page_itself(page: Page, studio: Studio) -> None:
    config = json.dumps(page.client.get("/config").json())
    assert "a field number" not in config
    for outward in ("allow_flagging", "run_history_enabled"):
        assert f'"{outward}": true' not in config


def test_files_of_the_workspace_are_not_served(page: Page, studio: Studio) -> None:
    for path in (studio.settings.workspace / "studio.db", studio.settings.files):
        assert page.client.get(f"/gradio_api/file={path}").status_code in (403, 404)
