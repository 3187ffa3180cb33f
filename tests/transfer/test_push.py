"""Adapters on the Hub: by its real client, against a server that answers like it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inpo_studio.studio import Studio
from inpo_studio.studio.errors import StudioError
from inpo_studio.transfer.push import check_repository
from tests.cli.running import Ended, Terminal
from tests.transfer.hub_uploads import TOKEN, Uploads, taking_uploads

from .conftest import Aligned


@pytest.fixture
def hub() -> Iterator[Uploads]:
    with taking_uploads() as running:
        yield running


@pytest.fixture
def terminal(
    hub: Uploads, studio: Studio, align: Callable[..., Aligned], tmp_path: Path
) -> Terminal:
    """A terminal on a workspace with an aligned round, whose Hub is the server here."""
    made = align("sd15", alpha=8.0)
    terminal = Terminal(tmp_path, str(made.model))
    assert terminal.workspace == studio.settings.workspace
    for name in ("HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE"):
        terminal.environment.pop(name, None)
    terminal.environment |= {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "",
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
    }
    return terminal


def refused(ended: Ended, code: int) -> str:
    assert ended.code == code, ended.err
    sentence = str(ended.json["error"])
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "Traceback" not in ended.err
    assert TOKEN not in ended.out + ended.err
    return sentence


def test_all_forms_and_a_card_arrive_and_the_token_stays_nowhere(
    terminal: Terminal, hub: Uploads, tmp_path: Path
) -> None:
    terminal.environment["HF_DEBUG"] = "1"  # the client writes every request to its log
    ended = terminal("push-adapter", "1", "ada/taste", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["private"] is True
    assert ended.json["url"] == f"{hub.url}/ada/taste"
    assert hub.repositories == {"ada/taste": True}
    sent = hub.files["ada/taste"]
    assert (
        sorted(sent)
        == ended.json["files"]
        == [
            "README.md",
            "adapter_config.json",
            "adapter_model.safetensors",
            "pytorch_lora_weights.safetensors",
            "sd15-round-1.safetensors",
        ]
    )
    terminal.ok("export-adapter", "--out", "out", "--round", "1")
    for name, content in sent.items():
        assert content == (tmp_path / "out" / name).read_bytes(), name
    assert TOKEN not in ended.out + ended.err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "studio.db" for path in files)
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []


def test_a_saved_log_in_serves_as_well_and_again_is_no_error(
    terminal: Terminal, hub: Uploads, tmp_path: Path
) -> None:
    terminal.environment["HF_TOKEN"] = ""
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text(TOKEN)
    first = terminal.ok("push-adapter", "1", "ada/taste", "--public")
    assert first["private"] is False
    assert terminal.ok("push-adapter", "1", "ada/taste")["private"] is False, "it was public before"
    assert "everybody can see it" in terminal("push-adapter", "1", "ada/taste").out


def test_what_is_to_be_mended_first_sends_nothing(terminal: Terminal, hub: Uploads) -> None:
    sentence = refused(terminal("push-adapter", "1", "no owner", "--json"), 2)
    assert "OWNER/NAME" in sentence
    sentence = refused(terminal("push-adapter", "9", "ada/taste", "--json"), 2)
    assert "no round 9" in sentence
    terminal.environment["HF_HUB_OFFLINE"] = "1"
    assert "HF_HUB_OFFLINE" in refused(terminal("push-adapter", "1", "ada/taste", "--json"), 2)
    terminal.environment["HF_HUB_OFFLINE"] = ""
    terminal.environment["HF_TOKEN"] = ""
    assert "hf auth login" in refused(terminal("push-adapter", "1", "ada/taste", "--json"), 2)
    assert hub.asked == []


def test_what_the_hub_refuses_is_one_sentence(terminal: Terminal, hub: Uploads) -> None:
    sentence = refused(terminal("push-adapter", "1", "eve/taste", "--json"), 1)
    assert "may not write to 'eve/taste'" in sentence
    terminal.environment["HF_TOKEN"] = "hf_" + "w" * 34
    assert "does not know" in refused(terminal("push-adapter", "1", "ada/taste", "--json"), 1)
    assert hub.repositories == {}
    terminal.environment["HF_ENDPOINT"] = "http://127.0.0.1:9"
    assert "cannot be reached" in refused(terminal("push-adapter", "1", "ada/taste", "--json"), 1)


@pytest.mark.parametrize("name", ["taste", "a/b/c", "a b/c", "../x", "a/", "ada/-x", "ada/x--y"])
def test_names_of_no_repository(name: str) -> None:
    with pytest.raises(StudioError, match="OWNER/NAME"):
        check_repository(name)
