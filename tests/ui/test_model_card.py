"""The model card's server side over HTTP: who may name a model, and what is answered."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from inpo_studio.settings import Settings, chosen_model
from inpo_studio.studio import open_studio
from inpo_studio.ui.doors import Doors, is_owner
from tests.browser.serving import Server
from tests.hub_server import Hub, running_hub
from tests.jobs.support import wait_for
from tests.loops import run
from tests.single_files import build_single_file

Call = Callable[..., dict[str, Any]]
PROXIED = {"X-Forwarded-For": "10.0.0.7"}


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with running_hub() as server:
        yield server


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    open_studio(Settings(workspace=tmp_path / "workspace")).close()
    return tmp_path / "workspace"


@pytest.fixture
def call(workspace: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """call(function, headers, **data) -> the answer of the model card's server."""
    for name, value in hub.environment(workspace.parent / "hf").items():
        monkeypatch.setenv(name, value)
    server = Server(workspace)
    server.start()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        parts = client.get("/config").json()["components"]
        card = next(one["id"] for one in parts if one["props"].get("elem_id") == "model-card")

        def send(
            function: str, headers: dict[str, str] | None = None, **data: Any
        ) -> dict[str, Any]:
            body = {
                "data": data,
                "component_id": card,
                "fn_name": function,
                "session_hash": uuid4().hex[:10],
            }
            told = client.post("/gradio_api/component_server/", json=body, headers=headers)
            assert told.status_code == 200, told.text
            answer: dict[str, Any] = told.json()
            return answer

        yield send
    server.kill()


def wait_for_fetch(call: Call, state: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        told: dict[str, Any] = call("look_model")["fetch"] or {}
        if told.get("state") == state:
            return told
        assert told.get("state") in (None, "running"), told
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_looked_at_fetched_stopped_gone_on_with_and_used(
    call: Call, hub: Hub, workspace: Path, tiny_model: Callable[[str], Path]
) -> None:
    hub.add("small/sd15", tiny_model("sd15"))
    present = call("look_model")["present"]
    assert present["name"] == "postcards"
    assert present["from"] == "Ships with the studio."
    found = call("find_model", name="https://huggingface.co/small/sd15")["found"]
    assert found["title"] == "Stable Diffusion 1, 64×64, one text encoder, ε-prediction"
    assert "in 10 files; free on disk" in found["missing"]["sentence"]
    assert not found["ready"]
    assert "fetch it with" in call("take_model", name="small/sd15")["refused"]
    hub.bytes_per_s = 150_000
    assert call("fetch_model", name="small/sd15") == {"fetching": "small/sd15"}
    assert call("fetch_model", name="small/sd15") == {"fetching": "small/sd15"}
    hub.add("other/sd15", tiny_model("sd15"))
    assert "small/sd15 is being fetched; wait" in call("fetch_model", name="other/sd15")["refused"]
    wait_for(lambda: call("look_model")["fetch"]["file"].startswith("unet/"), 30)
    assert call("stop_fetch") == {}
    stopped = wait_for_fetch(call, "stopped")
    assert 0 < stopped["done"] < stopped["total"]
    assert call("stop_fetch") == {}
    assert call("look_model")["fetch"] is None
    hub.bytes_per_s = None
    call("fetch_model", name="small/sd15")
    done = wait_for_fetch(call, "done")
    assert done["done"] == done["total"]
    assert call("find_model", name="small/sd15")["found"]["ready"]
    assert call("take_model", name="small/sd15") == {"used": "small/sd15"}
    assert call("look_model")["present"]["name"] == "small/sd15"
    assert chosen_model(workspace) == "small/sd15"
    assert [offer["name"] for offer in call("look_model")["offers"]] == ["postcards"]


def test_a_single_file_fetches_what_says_how_to_read_it(
    call: Call, hub: Hub, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    hub.add("stable-diffusion-v1-5/stable-diffusion-v1-5", tiny_model("sd15"))
    file = build_single_file(
        tiny_model("sd15"), tmp_path / "dream.safetensors", configurations=False
    )
    found = call("find_model", name=str(file))["found"]
    assert found["missing"]["sentence"].startswith("The file holds weights only; what says how to")
    assert "needs its configuration" in call("take_model", name=str(file))["refused"]
    call("fetch_model", name=str(file))
    assert wait_for_fetch(call, "done")["wanted_for"] == str(file)
    assert call("take_model", name=str(file)) == {"used": str(file)}
    assert call("look_model")["present"]["short"] == "dream.safetensors"


def test_what_goes_wrong_is_one_sentence(call: Call, hub: Hub, tmp_path: Path) -> None:
    hub.add("shut/one", tmp_path, gated=True)
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "weights.ckpt").write_bytes(b"\x80")
    for name, words in (
        ("no/model", "There is no model 'no/model' on the Hub"),
        ("shut/one", "is gated: accept its terms"),
        (str(tmp_path / "gone"), "is not there"),
        (str(tmp_path / "weights.ckpt"), "pickled"),
        ("", "Name a model first"),
    ):
        for function in ("find_model", "fetch_model", "take_model"):
            told = call(function, name=name)
            assert set(told) == {"refused"}, (name, function, told)
            assert "\n" not in told["refused"]
        assert words in call("find_model", name=name)["refused"]


def test_a_fetch_that_fails_says_why(
    call: Call, hub: Hub, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    folder = tmp_path / "one"
    shutil.copytree(tiny_model("sd15"), folder)
    hub.add("some/one", folder)
    hub.bytes_per_s = 100_000
    call("fetch_model", name="some/one")
    wait_for(lambda: call("look_model")["fetch"]["file"].startswith("unet/"), 30)
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    hub.bytes_per_s = None
    failed = wait_for_fetch(call, "failed")
    assert failed["error"].startswith("'some/one' was changed on the Hub meanwhile")


def test_only_the_person_at_the_machine_may_name_its_files(call: Call, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    seen = [
        call(function, PROXIED, name=str(place))
        for function in ("find_model", "fetch_model", "take_model")
        for place in (tmp_path / "secret", tmp_path / "nothing", "a/b")
    ]
    assert all(told == seen[0] for told in seen), "an answer would tell what is there"
    assert "Only the person at the machine" in seen[0]["refused"]
    assert call("stop_fetch", PROXIED) == seen[0]
    told = call("look_model", PROXIED)
    assert told["present"]["name"] == "postcards"
    assert set(told) == {"owner", "present"}
    assert str(tmp_path) not in str(told)


@pytest.mark.parametrize(
    ("client", "headers", "owner"),
    [
        (("127.0.0.1", 5), [], True),
        (("::1", 5), [], True),
        (("10.0.0.7", 5), [], False),
        (None, [], False),
        (("127.0.0.1", 5), [(b"x-forwarded-for", b"127.0.0.1")], False),
        (("127.0.0.1", 5), [(b"Forwarded", b"for=127.0.0.1")], False),
        (("127.0.0.1", 5), [(b"x-real-ip", b"127.0.0.1")], False),
    ],
)
def test_who_is_the_owner(client: Any, headers: list[tuple[bytes, bytes]], owner: bool) -> None:
    seen: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(is_owner(scope))

    async def nothing(*_: Any) -> Any:
        return {}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [(b"host", b"127.0.0.1:7860"), *headers],
        "client": client,
        "inpo_studio_owner": True,
    }
    run(Doors(app)(scope, nothing, nothing))
    assert seen == [owner]
    with pytest.raises(PermissionError):
        is_owner({"inpo_studio_owner": True})
