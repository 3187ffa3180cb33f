"""The Align page's server side: who may call it, what it takes, what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest

from inpo_studio.settings import Settings
from inpo_studio.studio import Studio, open_studio
from inpo_studio.studio.align.rounds import adopt_round
from inpo_studio.ui.align import server_functions
from inpo_studio.ui.doors import USER
from storage import model_states
from storage.rounds import claim_attempt, create_round, get_round, list_rounds, set_state
from storage.schema import Round
from tests.browser import round_rows as rows
from tests.browser.serving import Server

FUNCTIONS = ("look", "start", "act", "exports", "bring", "push")


class Page:
    """Calls the server functions as the page does, without a server in between."""

    def __init__(self, studio: Studio) -> None:
        self.functions = {one.__name__: one for one in server_functions(studio)}
        self.request = SimpleNamespace(scope={"type": "http", USER: "me"})

    def __call__(self, function: str, **data: Any) -> dict[str, Any]:
        return self.functions[function]({"studio": "", **data}, self.request)


@pytest.fixture
def page(studio: Studio) -> Page:
    """A page of a workspace with ten clear choices."""
    rows.label(studio, 10, held=2)
    return Page(studio)


def stored(studio: Studio) -> list[Round]:
    with studio.database.read() as session:
        return list_rounds(session)


def state_of(studio: Studio, made: Round) -> str:
    with studio.database.read() as session:
        return get_round(session, made.id).state


def test_a_press_starts_one_round(page: Page, studio: Studio) -> None:
    found = page("look")
    assert found["plan"]["value"]["ready"]
    assert found["rounds"]["value"]["rounds"] == []
    assert "watched" not in found
    started = page("start", drawer={"steps": "12", "objective": "ipo", "learning_rate": "0,002"})
    (made,) = stored(studio)
    assert started == {"started": made.id, "told": "Round 1 is on its way."}
    assert (made.total_steps, made.config["objective"]) == (12, "ipo")
    assert made.config["learning_rate"] == 0.002
    assert studio.engine.status(str(made.job_id)).state == "queued"
    assert "waiting" in page("start")["refused"]
    assert len(stored(studio)) == 1
    assert page("look")["watched"]["state"] == "queued"


def test_whose_choices_and_which(page: Page, studio: Studio) -> None:
    assert (
        "Align on these 10 choices"
        in page("look", drawer={"annotator": "me"})["plan"]["value"]["button"]
    )
    assert not page("look", drawer={"annotator": "nobody"})["plan"]["value"]["ready"]
    page("start", drawer={"which": "fresh", "annotator": "me", "parent": "base"})
    assert stored(studio)[0].selection == {"which": "fresh", "annotators": ["me"]}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"steps": "many"}, "Steps must be a whole number from 1 to 100000"),
        ({"steps": "0"}, "Steps must be"),
        ({"steps": "12.5"}, "Steps must be"),
        ({"beta": "nan"}, "Beta must be"),
        ({"beta": "-1"}, "Beta must be"),
        ({"learning_rate": "5"}, "learning rate must be"),
        ({"rank": "1e9"}, "rank must be"),
        ({"batch_pairs": "1e99"}, "Pairs a step must be"),
        ({"label_noise": "0.5"}, "wrong clicks must be"),
        ({"objective": "magic"}, "objective is unknown"),
        ({"parent": "f" * 32}, "no"),
        ({"which": "some"}, "cannot be read"),
        ({"steps": 12}, "cannot be read"),
        ({"threads": "64"}, "cannot be read"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    page: Page, studio: Studio, wrong: dict[str, Any], said: str
) -> None:
    answer = page("start", drawer=wrong)
    assert said in answer["refused"]
    assert "\n" not in answer["refused"]
    assert not stored(studio)
    looked = page("look", drawer=wrong)
    assert said in (looked.get("unplanned") or looked.get("refused"))


def test_only_what_is_new_comes_again(page: Page, studio: Studio) -> None:
    made = rows.add_round(studio)
    attempt = rows.begin_training(studio, made)
    rows.train(studio, made, attempt, 1, 21)
    first = page("look")
    assert "plan" not in first, "nothing is planned while a round is at work"
    knows = {name: first[name]["version"] for name in ("rounds", "samples")}
    known = {"showing": made.id, "after_step": 21, "attempt": attempt, "knows": knows}
    again = page("look", **known)
    assert again["watched"]["figures"] == []
    assert not {"rounds", "samples"} & set(again)
    rows.train(studio, made, attempt, 22, 24)
    later = page("look", **known)
    assert [row[0] for row in later["watched"]["figures"]] == [22, 23, 24]
    assert "rounds" not in later, "a step is no reason to send the tree again"
    assert later["watched"]["step"] == 24
    with studio.database.write() as session:
        claim_attempt(session, made.id)
    assert page("look", **known)["watched"]["afresh"]


def test_pause_resume_finish_cancel(page: Page, studio: Studio) -> None:
    made = rows.add_round(studio)
    attempt = rows.begin_training(studio, made)
    assert "pauses" in page("act", action="pause", round_id=made.id)["told"]
    assert state_of(studio, made) == "pausing"
    with studio.database.write() as session:
        set_state(session, made.id, "paused", attempt=attempt)
    assert "finish" not in page("look")["watched"]["actions"]
    assert "goes on" in page("act", action="resume", round_id=made.id)["told"]
    assert state_of(studio, made) == "queued"
    with studio.database.write() as session:
        claim_attempt(session, made.id)
    assert "kept" in page("act", action="finish", round_id=made.id)["told"]
    assert state_of(studio, made) == "finishing"
    assert "cancelled" in page("act", action="cancel", round_id=made.id)["told"]
    assert state_of(studio, made) == "cancelling"
    assert "refused" in page("act", action="resume", round_id=made.id)


def test_adopt_keep_revert(page: Page, studio: Studio) -> None:
    made = rows.add_done(studio)
    told = page("act", action="adopt", round_id=made.id)["told"]
    assert "Round 1 is adopted" in told
    assert "put away" in told
    assert "step 40" in page("act", action="keep", round_id=made.id, step=40)["told"]
    card = page("look")["rounds"]["value"]["rounds"][0]
    assert (card["kept_step"], card["adopted"]) == (40, True)
    assert (
        "kept no weights of step 33"
        in page("act", action="keep", round_id=made.id, step=33)["refused"]
    )
    assert "base model" in page("act", action="revert")["told"]
    with studio.database.read() as session:
        assert model_states.adopted_round(session, made.model) is None


def test_the_next_round_starts_from_what_is_asked(page: Page, studio: Studio) -> None:
    made = rows.add_done(studio)
    assert "round 1" in page("look", drawer={"parent": made.id})["plan"]["value"]["sentence"]
    adopt_round(studio, made.id)
    assert "round 1" in page("look")["plan"]["value"]["sentence"]
    assert "base model" in page("look", drawer={"parent": "base"})["plan"]["value"]["sentence"]
    refused = page("start", drawer={"rank": "64"})["refused"]
    assert "rank" in refused
    page("start", drawer={"parent": made.id})
    assert stored(studio)[-1].parent_id == made.id


@pytest.mark.parametrize(
    "wrong",
    [
        {"action": "delete"},
        {"action": "pause"},
        {"action": "pause", "round_id": "../x"},
        {"action": "pause", "round_id": "f" * 32},
        {"action": "keep", "round_id": "f" * 32, "step": -1},
        {"action": "revert", "user": "boss"},
    ],
)
def test_what_is_no_request_is_refused(page: Page, wrong: dict[str, Any]) -> None:
    assert page("act", **wrong)["refused"].count("\n") == 0


def test_rounds_of_another_model_are_out_of_reach(page: Page, studio: Studio) -> None:
    with studio.database.write() as session:
        made = create_round(session, model="another", config={}, seed=0)
    assert "refused" in page("act", action="cancel", round_id=made.id)
    assert "refused" in page("look", watch=made.id)
    assert state_of(studio, made) == "queued"


def test_a_page_of_another_workspace_is_told_so(page: Page, studio: Studio) -> None:
    for name in ("look", "start"):
        assert "another workspace" in page(name, studio="another")["retry"]
    assert not stored(studio)


def test_nobody_calls_it_past_the_doors(studio: Studio) -> None:
    for function in server_functions(studio):
        with pytest.raises(PermissionError):
            function({"studio": ""}, SimpleNamespace(scope={"type": "http"}))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    settings = Settings(workspace=tmp_path_factory.mktemp("served") / "workspace")
    open_studio(settings).close()
    server = Server(settings.workspace)
    server.start()
    with httpx.Client(base_url=server.url, timeout=30) as opened:
        yield opened
    server.kill()


def call(client: httpx.Client, name: str, headers: dict[str, str]) -> httpx.Response:
    parts = client.get("/config").json()["components"]
    component = next(one["id"] for one in parts if one["props"].get("elem_id") == "align")
    body = {
        "data": {"studio": "", **({"action": "revert"} if name == "act" else {})},
        "component_id": component,
        "fn_name": name,
        "session_hash": uuid4().hex[:10],
    }
    return client.post("/gradio_api/component_server/", json=body, headers=headers)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_strangers_cannot_call_it(client: httpx.Client, name: str) -> None:
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
    ):
        assert call(client, name, headers).status_code == 403
    answer = call(client, name, {})
    assert answer.status_code == 200
    assert "choices" in answer.text or {"told", "refused"} & set(answer.json())
