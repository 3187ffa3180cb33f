"""The Compare page's server side over HTTP: who may call it, and what it takes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from PIL import Image

from inpo_studio.settings import Settings
from inpo_studio.studio import Studio, open_studio
from inpo_studio.studio.label.prompts import comparison_prompts
from inpo_studio.ui.compare import server_functions
from inpo_studio.ui.compare.slider import KEPT, Copies
from storage.comparisons import add_comparison
from storage.errors import NotFound
from storage.images import add_image
from storage.prompts import find_prompt
from storage.schema import Comparison, Round
from tests.browser.serving import Server
from tests.studio.workspace import add_done_round

CALLS: dict[str, dict[str, Any]] = {
    "look": {},
    "draw": {},
    "stop": {},
    "one": {"prompt": "a whale", "seed": 1, "strength": 0.5},
    "look_at": {"job": "j"},
}


class Page:
    """Calls the server functions as a page of its own does."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        parts = client.get("/config").json()["components"]
        self.id = next(one["id"] for one in parts if one["props"].get("elem_id") == "compare")

    def __call__(self, function: str, headers: dict[str, str] | None = None, **data: Any) -> Any:
        body = {
            "data": {"studio": "", **data},
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
def made(studio: Studio) -> Round:
    comparison_prompts(studio, ["a sea <b>at</b> dusk"])
    return add_done_round(studio)


@pytest.fixture(scope="module")
def page(studio: Studio, made: Round) -> Iterator[Page]:
    server = Server(studio.settings.workspace)
    server.start()
    with httpx.Client(base_url=server.url, timeout=30) as opened:
        yield Page(opened)
    server.kill()


def compared(studio: Studio, made: Round, size: tuple[int, int] = (8, 6)) -> Comparison:
    """One comparison, its two pictures of plain colours."""
    (prompt,) = comparison_prompts(studio, ["a plain"])
    told = {"width": size[0], "height": size[1], "prompt_id": prompt.id, "seed": 0}
    told |= {"model": studio.settings.model, "guidance": 3.0, "steps": 20}
    colours = {None: (200, 10, 10), made.adapter_id: (10, 10, 200)}
    hashes = {
        adapter: studio.files.put_image(Image.new("RGB", size, colour))
        for adapter, colour in colours.items()
    }
    with studio.database.write() as session:
        images = [
            add_image(
                session,
                sha256=hashes[adapter],
                adapter_id=adapter,
                adapter_on=adapter and "prompt",
                **told,
            ).id
            for adapter in colours
        ]
        return add_comparison(
            session,
            prompt_id=prompt.id,
            seed=0,
            base_image_id=images[0],
            aligned_image_id=images[1],
            round_id=made.id,
            adapter_id=made.adapter_id,
        )


def test_it_shows_a_view_and_settles_the_sides(page: Page, made: Round) -> None:
    found = page("look").json()
    assert (found["state"], found["view"]["round_id"], found["view"]["base"]) == (
        "open",
        made.id,
        None,
    )
    assert [cell["prompt"] for cell in found["cells"]][-1] == "a sea <b>at</b> dusk"
    assert page("look", studio=found["studio"]).json() == found
    assert "refused" in page("look", studio="another").json()


def test_a_picture_is_asked_for_watched_and_stopped(
    page: Page, studio: Studio, made: Round
) -> None:
    sides = {"base": None, "round": made.id}
    asked = page("one", **sides, **CALLS["one"]).json()
    assert asked["state"] == "queued"
    assert page("look_at", job=asked["job"]).json()["state"] == "queued"
    again = page("one", **sides, **{**CALLS["one"], "strength": 0.7}, instead=asked["job"]).json()
    assert studio.engine.status(asked["job"]).state == "cancelled"
    studio.engine.cancel(again["job"])
    assert page("draw", **sides).json() == {}
    assert page("look", **sides).json()["drawing"]["state"] == "queued"
    assert page("stop", **sides).json() == {}
    assert page("look", **sides).json()["drawing"] is None


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}]
)
def test_strangers_cannot_call_it(page: Page, studio: Studio, headers: dict[str, str]) -> None:
    for name, data in CALLS.items():
        assert page(name, headers, **data).status_code == 403, name
    assert studio.engine.unfinished("comparisons") == []


def test_it_answers_only_what_came_through_the_doors(studio: Studio) -> None:
    for function in server_functions(studio):
        with pytest.raises(PermissionError):
            function({}, SimpleNamespace(scope={"type": "http"}))


@pytest.mark.parametrize(
    ("function", "wrong"),
    [
        ("look", {"base": "../etc"}),
        ("look", {"seeds": 1000}),
        ("look", {"prompts": 10**9}),
        ("look", {"steps": 0}),
        ("look", {"guidance": "NaN"}),
        ("look", {"more": 1}),
        ("one", {"prompt": ""}),
        ("one", {"prompt": "x" * 3000}),
        ("one", {"prompt": " "}),
        ("one", {"seed": -1}),
        ("one", {"seed": 2**32}),
        ("one", {"strength": 1.6}),
        ("one", {"round": "f" * 32}),
        ("one", {"base": "f" * 32}),
        ("look_at", {"job": "f" * 32}),
        ("look_at", {"job": ""}),
    ],
)
def test_what_is_no_message_is_refused(
    page: Page, studio: Studio, made: Round, function: str, wrong: dict[str, Any]
) -> None:
    answer = page(function, **{"round": made.id, **CALLS[function], **wrong})
    assert answer.status_code == 200
    assert answer.json()["refused"].count("\n") == 0
    assert studio.engine.unfinished("comparisons") == []


def test_no_prompt_is_in_the_page_itself(page: Page) -> None:
    assert "at</b> dusk" not in json.dumps(page.client.get("/config").json())


def test_refusing_holds_no_prompt_out(page: Page, studio: Studio) -> None:
    page("one", **{**CALLS["one"], "prompt": "a heron"}, round="f" * 32)
    with studio.database.read() as session:
        assert find_prompt(session, "a heron") is None


def test_the_slider_gets_fresh_copies_that_tell_nothing(
    studio: Studio, made: Round, tmp_path: Path
) -> None:
    row = compared(studio, made)
    copies = Copies(tmp_path)
    first, second = copies.of_comparison(studio, row.id), copies.of_comparison(studio, row.id)
    assert len({*first, *second}) == 4
    for path in first:
        for told in (row.id, row.base_image_id, row.base_image.sha256, row.aligned_image.sha256):
            assert told not in path
    sizes = []
    for path, colour in zip(first, ((200, 10, 10), (10, 10, 200)), strict=True):
        with Image.open(path) as copy:
            sizes.append(copy.size)
            assert copy.getpixel((5, 5)) == colour
    assert sizes == [(512, 384)] * 2, "enlarged by a whole factor"
    with pytest.raises(NotFound):
        copies.of_comparison(studio, "f" * 32)
    for _ in range(KEPT):
        copies.of_comparison(studio, row.id)
    assert not Path(first[0]).exists()
    kept = [name for _, _, names in os.walk(tmp_path) for name in names]
    assert len(kept) == KEPT
