"""Why a model cannot be had: one sentence each, with the way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from inpo_studio.diffusion.families import UnsupportedModel
from inpo_studio.diffusion.sources import locate


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[str]]:
    """hub(answer) -> what is fetched; the answer to a listing is names, or an error."""

    def answer_with(answer: Any) -> list[str]:
        fetched: list[str] = []

        def listing(self: Any, repository: str) -> list[str]:
            if isinstance(answer, Exception):
                raise answer
            return list(answer)

        def snapshot(repository: str, **options: Any) -> str:
            if options.get("local_files_only"):
                raise LocalEntryNotFoundError("not in the cache")
            fetched.extend(options["allow_patterns"])
            return "/fetched"

        monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", listing)
        monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
        return fetched

    return answer_with


def refused(kind: type[Exception]) -> Exception:
    response: Any = SimpleNamespace(
        headers={}, request=SimpleNamespace(url="", method="GET"), status_code=403
    )
    return kind("refused", response=response)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (refused(GatedRepoError), "is gated: accept its terms at https://huggingface.co/a/b"),
        (refused(RepositoryNotFoundError), "no model 'a/b' on the Hub that you may see"),
        (OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE is set; unset it"),
        (ConnectionError("no route"), r"cannot be reached \(ConnectionError\); check the conn"),
        (TimeoutError(), "cannot be reached"),
    ],
)
def test_each_reason_has_its_sentence(
    error: Exception, sentence: str, hub: Callable[[Any], list[str]]
) -> None:
    hub(error)
    with pytest.raises(UnsupportedModel, match=sentence) as found:
        locate("a/b")
    assert str(found.value).endswith(".")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["README.md", "model.safetensors"], "not a diffusers pipeline"),
        (["model_index.json", "unet/diffusion_pytorch_model.bin"], "pickled ones are never"),
    ],
)
def test_a_repository_is_looked_at_before_anything_is_fetched(
    names: list[str], sentence: str, hub: Callable[[Any], list[str]]
) -> None:
    fetched = hub(names)
    with pytest.raises(UnsupportedModel, match=sentence):
        locate("a/b")
    assert fetched == []


def test_only_what_is_needed_is_fetched(hub: Callable[[Any], list[str]]) -> None:
    fetched = hub(
        ["model_index.json", "unet/config.json", "unet/x.safetensors", "unet/x.bin", "big.ckpt"]
    )
    assert locate("a/b") == Path("/fetched")
    assert fetched == ["model_index.json", "unet/config.json", "unet/x.safetensors"]


@pytest.mark.parametrize("name", ["model.ckpt", "weights.bin", "weights.pt"])
def test_pickled_files_are_refused_with_the_way_to_convert(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(UnsupportedModel, match=r"pickled.*safe_serialization=True"):
        locate(str(tmp_path / name))


@pytest.mark.parametrize("name", ["models/gone.safetensors", "/gone", "gone.ckpt", "./a/b"])
def test_a_missing_file_is_not_looked_for_on_the_hub(
    name: str, hub: Callable[[Any], list[str]]
) -> None:
    hub(AssertionError("the Hub was asked"))
    with pytest.raises(UnsupportedModel, match="no model at"):
        locate(name)
