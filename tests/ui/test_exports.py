"""Exports and imports on the Align page's server side: made, sent, checked, brought, refused."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from inpo_studio.settings import Settings
from inpo_studio.studio import Studio, open_studio
from inpo_studio.studio.align.export_checks import CheckResult, note
from inpo_studio.ui.align import server_functions
from inpo_studio.ui.doors import OWNER, USER
from inpo_studio.ui.server import build_server_app
from storage.rounds import create_round, list_rounds
from storage.schema import Round
from tests.loops import run
from tests.transfer.conftest import Aligned, align

__all__ = ["align"]


class Page:
    """Calls the server functions as the page does, for the studio's owner unless told otherwise."""

    def __init__(self, studio: Studio, *, owner: bool = True) -> None:
        self.functions = {one.__name__: one for one in server_functions(studio)}
        self.request = SimpleNamespace(scope={"type": "http", USER: "me", OWNER: owner})

    def __call__(self, function: str, **data: Any) -> dict[str, Any]:
        return self.functions[function]({"studio": "", **data}, self.request)


@pytest.fixture
def here(studio: Studio, align: Callable[..., Aligned]) -> Any:
    """A studio of the small model with a done round, and that round."""
    made = align("sd15", alpha=8.0)
    opened = open_studio(Settings(workspace=studio.settings.workspace, model=str(made.model)))
    yield opened, made.round
    opened.close()


def forms(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["form"]: one for one in answer["forms"]}


async def get(studio: Studio, path: str, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=build_server_app(studio))
    base = f"http://127.0.0.1:{studio.settings.port}"
    async with httpx.AsyncClient(transport=transport, base_url=base) as client:
        return await client.get(path, headers=headers)


def fetch(studio: Studio, path: str, **headers: str) -> httpx.Response:
    return run(get(studio, path, **headers))


def test_a_form_is_made_when_asked_for_and_sent(here: tuple[Studio, Round]) -> None:
    studio, made = here
    page = Page(studio)
    nothing = page("exports", round_id=made.id)
    assert {one["state"] for one in nothing["forms"]} == {"none"}
    assert not (studio.settings.workspace / "rounds" / made.id / "exports").exists()
    assert fetch(studio, f"/exports/{made.id}/kohya").status_code == 404
    found = forms(page("exports", round_id=made.id, form="kohya"))["kohya"]
    assert found["name"] == "sd15-round-1.safetensors"
    sent = fetch(studio, found["url"])
    assert sent.status_code == 200
    assert len(sent.content) == found["bytes"]
    assert sent.headers["content-disposition"] == f'attachment; filename="{found["name"]}"'
    assert sent.headers["x-content-type-options"] == "nosniff"
    card = fetch(studio, found["card"])
    assert card.text.startswith("---\n")
    assert "sd15-round-1.md" in card.headers["content-disposition"]
    peft = forms(page("exports", round_id=made.id, form="peft"))["peft"]
    with zipfile.ZipFile(io.BytesIO(fetch(studio, peft["url"]).content)) as archive:
        assert len(archive.namelist()) == 3


def test_nobody_else_is_sent_anything(here: tuple[Studio, Round]) -> None:
    studio, made = here
    url = forms(Page(studio)("exports", round_id=made.id, form="kohya"))["kohya"]["url"]
    for headers in (
        {"host": "evil.example"},
        {"origin": "http://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "cross-site", "sec-fetch-dest": "document"},
    ):
        assert fetch(studio, url, **headers).status_code == 403, headers
    request = SimpleNamespace(scope={"type": "http"})
    for one in server_functions(studio):
        with pytest.raises(PermissionError):
            one({}, request)


@pytest.mark.parametrize(
    "path",
    [
        "/exports/../studio.db/kohya",
        "/exports/%2e%2e%2f%2e%2e/kohya",
        "/exports/ROUND/..%2f..%2fstudio.db",
        "/exports/ROUND/other",
        "/exports/ROUND/*",
        "/exports/ROUND/kohya/check.json",
        "/exports/none/kohya",
    ],
)
def test_only_exports_can_be_named(here: tuple[Studio, Round], path: str) -> None:
    studio, made = here
    Page(studio)("exports", round_id=made.id, form="kohya")
    assert fetch(studio, path.replace("ROUND", made.id)).status_code == 404


def test_a_check_is_asked_once_and_its_result_shown(here: tuple[Studio, Round]) -> None:
    studio, made = here
    page = Page(studio)
    first = forms(page("exports", round_id=made.id, form="diffusers", check=True))["diffusers"]
    assert (first["state"], first["sentence"]) == ("waiting", "Waits for the worker.")
    page("exports", round_id=made.id, form="diffusers", check=True)
    (job,) = studio.engine.unfinished("check")
    (report,) = studio.settings.workspace.glob("rounds/*/exports/diffusers-*/check.json")
    result = CheckResult(form="diffusers", pictures=4, difference=0, effect=90)
    note(report, {"job_id": job.job_id, "result": result.model_dump()})
    found = forms(page("exports", round_id=made.id))["diffusers"]
    assert found["state"] == "passed"
    assert "differ by at most 0/255" in found["sentence"]


def test_what_cannot_be_exported_is_one_sentence(here: tuple[Studio, Round]) -> None:
    studio, made = here
    with studio.database.write() as session:
        model = studio.settings.model
        queued = create_round(session, model=model, config=made.config, seed=0)
        other = create_round(session, model="postcards", config=made.config, seed=0)
    page = Page(studio)
    assert "has no adapter" in page("exports", round_id=queued.id, form="peft")["refused"]
    assert "no such round" in page("exports", round_id=other.id)["refused"]
    assert "reload" in page("exports", round_id=made.id, form="onnx")["refused"]


def test_a_lora_is_brought_by_its_path_from_this_machine_only(
    here: tuple[Studio, Round], tmp_path: Path
) -> None:
    studio, made = here
    page = Page(studio)
    found = forms(page("exports", round_id=made.id, form="kohya"))["kohya"]
    path = next(studio.settings.workspace.glob(f"rounds/*/exports/kohya-*/files/{found['name']}"))
    away = Page(studio, owner=False)
    assert away("look")["local"] is False
    assert "at this machine" in away("bring", source=str(path))["refused"]
    assert "no file" in page("bring", source=str(tmp_path / "none.safetensors"))["refused"]
    assert "reload" in page("bring", source="")["refused"]
    assert page("look")["local"] is True
    told = page("bring", source=f"  {path}  ", name="<b>ink</b>")
    assert told["told"] == "It is round 2 now: adopt it, compare it or branch from it."
    with studio.database.read() as session:
        assert [row.id for row in list_rounds(session)] == [made.id, told["brought"]]
    cards = page("look")["rounds"]["value"]["rounds"]
    assert cards[0]["imported"]["name"] == "<b>ink</b>"


def test_who_may_upload_and_under_which_names(here: tuple[Studio, Round]) -> None:
    studio, made = here
    asked = {"round_id": made.id, "repository": "no owner"}
    assert "OWNER/NAME" in Page(studio)("push", **asked)["refused"]
    away = Page(studio, owner=False)
    assert "access token" in away("push", **asked)["refused"]
