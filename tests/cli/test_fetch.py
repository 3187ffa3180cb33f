"""`inpo-studio fetch`: sizes, consent, what is kept of a stopped download, and then use."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.running import Terminal
from tests.hub_models import copy, listed, look
from tests.hub_server import Hub, running_hub
from tests.single_files import build_single_file

Tiny = Callable[[str], Path]
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as server:
        yield server


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "hf"


@pytest.fixture
def fetching(tmp_path: Path, hub: Hub, home: Path) -> Terminal:
    """A terminal whose Hub is the tests'."""
    terminal = Terminal(tmp_path)
    terminal.environment |= hub.environment(home)
    return terminal


def test_nothing_is_downloaded_unless_agreed_to(
    fetching: Terminal, hub: Hub, home: Path, tiny_model: Tiny
) -> None:
    hub.add("small/sd15", tiny_model("sd15"))
    ended = fetching("fetch", "small/sd15")
    assert ended.code == 2
    assert "Stable Diffusion 1, 64×64, one text encoder, ε-prediction" in ended.err
    assert "in 10 files; free on disk: " in ended.err
    assert ended.err.rstrip().endswith("nobody agreed to it; add --yes.")
    assert WEIGHTS not in hub.sent
    told = fetching.ok("fetch", "small/sd15", "--yes")
    assert told["model"] == "small/sd15"
    assert told["fetched_bytes"] > 100_000
    assert told["fits"] is True
    again = fetching("fetch", "small/sd15", "--yes")
    assert again.code == 0
    assert "all of it is on this machine; `inpo-studio serve --model small/sd15`" in again.out
    (offline,) = look(hub, home, "small/sd15", HF_HUB_OFFLINE="1")
    assert offline["ready"]


def test_a_fetched_model_makes_pairs_without_a_network(
    fetching: Terminal, hub: Hub, tiny_model: Tiny
) -> None:
    hub.add("small/sdxl", tiny_model("sdxl"))
    fetching.ok("fetch", "small/sdxl", "--yes")
    asked = len(hub.asked)
    fetching.environment |= {"HF_HUB_OFFLINE": "1"}
    fetching.write("prompts.txt", "a red house")
    told = fetching.ok(
        *("pairs", "--model", "small/sdxl", "--prompts", "prompts.txt"),
        *("--count", "1", "--sampling-steps", "2"),
    )
    assert told["made"] == 1
    assert told["model"] == "small/sdxl"
    assert len(hub.asked) == asked


def test_a_model_that_is_not_here_says_how_to_fetch_it(fetching: Terminal, hub: Hub) -> None:
    fetching.write("prompts.txt", "a red house")
    ended = fetching(
        "pairs", "--model", "small/sd15", "--prompts", "prompts.txt", "--count", "1", "--json"
    )
    assert ended.code == 1
    assert "fetch it with `inpo-studio fetch small/sd15`" in ended.json["error"]
    told = fetching("doctor", "--model", "small/sd15", "--json").json
    assert not told["model"]["ok"]
    assert "inpo-studio fetch small/sd15" in told["model"]["text"]
    assert not hub.asked


def test_a_broken_connection_is_gone_on_with(
    fetching: Terminal, hub: Hub, tiny_model: Tiny
) -> None:
    hub.add("small/sd15", tiny_model("sd15"))
    hub.breaks_after = 64 * 1024
    told = fetching.ok("fetch", "small/sd15", "--yes")
    assert hub.breaks_after is None
    size = (tiny_model("sd15") / WEIGHTS).stat().st_size
    assert told["fetched_bytes"] > size
    assert hub.sent[WEIGHTS] < 1.5 * size


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_download_goes_on_with_the_missing_files(
    number: signal.Signals, fetching: Terminal, hub: Hub, home: Path, tiny_model: Tiny
) -> None:
    hub.add("small/sd15", tiny_model("sd15"))
    hub.bytes_per_s = 150_000
    with fetching.start("fetch", "small/sd15", "--yes") as child:
        deadline = time.monotonic() + 60
        while hub.sent.get(WEIGHTS, 0) < 40_000:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child.send_signal(number)
        child.communicate(timeout=30)
    assert child.returncode in (130, -signal.SIGKILL)
    if number == signal.SIGINT:
        assert not list((home / "hub").glob("*/blobs/*.incomplete"))
    (told,) = look(hub, home, "small/sd15", how="locate")
    assert "not, or not wholly, on this machine" in told["refused"]
    hub.bytes_per_s = None
    before = dict(hub.sent)
    fetching.ok("fetch", "small/sd15", "--yes")
    text = "text_encoder/model.safetensors"
    assert before[text] == hub.sent[text]
    assert hub.sent[WEIGHTS] > before[WEIGHTS]


def test_half_precision_is_a_choice(
    fetching: Terminal, hub: Hub, tmp_path: Path, tiny_model: Tiny
) -> None:
    folder = copy(tiny_model("sd15"), tmp_path / "both")
    for name in (
        "unet/diffusion_pytorch_model",
        "vae/diffusion_pytorch_model",
        "text_encoder/model",
    ):
        whole = folder / f"{name}.safetensors"
        (folder / f"{name}.fp16.safetensors").write_bytes(whole.read_bytes())
    hub.add("small/both", folder)
    fetching.ok("fetch", "small/both", "--yes", "--precision", "half")
    assert WEIGHTS not in hub.sent
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in hub.sent
    ended = fetching("fetch", "small/both", "--precision", "full")
    assert ended.code == 0
    assert "all of it is on this machine" in ended.out


def test_a_full_disk_is_refused_before_beginning(
    fetching: Terminal, hub: Hub, tmp_path: Path, tiny_model: Tiny
) -> None:
    folder = copy(tiny_model("sd15"), tmp_path / "huge", weights=False)
    hub.add("some/huge", folder, extra={**listed(folder), WEIGHTS: 10**16})
    ended = fetching("fetch", "some/huge", "--yes", "--json")
    assert ended.code == 2
    assert "make room, or set HF_HOME to a folder on another disk." in ended.json["error"]
    assert not [name for name in hub.sent if name.endswith(".safetensors")]


def test_the_configuration_of_a_single_file_is_fetched(
    fetching: Terminal, hub: Hub, tmp_path: Path, tiny_model: Tiny
) -> None:
    hub.add("stable-diffusion-v1-5/stable-diffusion-v1-5", tiny_model("sd15"))
    file = build_single_file(
        tiny_model("sd15"), tmp_path / "dream.safetensors", configurations=False
    )
    told = fetching.ok("fetch", str(file), "--yes")
    assert told["fetched_bytes"] < 50_000
    assert not [name for name in hub.sent if name.endswith(".safetensors")]
    ended = fetching("fetch", str(file))
    assert "Stable Diffusion 1, 64×64, one text encoder, ε-prediction" in ended.err
    assert ended.code == 0


@pytest.mark.parametrize("name", ["/gone", "no such model", "a/b/c"])
def test_what_is_no_model_is_one_sentence(name: str, fetching: Terminal) -> None:
    ended = fetching("fetch", name, "--json")
    assert ended.code == 2
    assert ended.json["error"].count(". ") == 0
