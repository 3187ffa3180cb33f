"""The Hub's listings and its local cache; why a model cannot be had, in one sentence. Torch-free.

`HF_HOME`, `HF_HUB_OFFLINE`, `HF_ENDPOINT` and a token in `HF_TOKEN` or of `hf auth login` are
honoured by the Hub's own client. Nothing here fetches weights: `downloads` does, when asked to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from inpo_studio.diffusion.families import FAMILIES, UnsupportedModel

_COMPONENTS = sorted(
    {"unet", "vae", "scheduler"}
    | {name for f in FAMILIES for s in f.text_encoders for name in (s.folder, s.tokenizer_folder)}
)
_HALF = re.compile(r"\.fp16[.-]")
_SHARD = re.compile(r"-\d+-of-\d+")


@dataclass(frozen=True)
class Listing:
    """What a repository holds."""

    commit: str
    sizes: Mapping[str, int]
    """Bytes of every file, by name."""


def hub_folder() -> Path:
    """Return the folder of the Hub's local cache; `HF_HOME` or `HF_HUB_CACHE` moves it."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def snapshot_folder(repository: str) -> Path | None:
    """The folder of a repository in the local cache, whole or not; None where nothing is there.

    Nothing is fetched.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(repository, "model_index.json")
    except (HFValidationError, OSError):
        return None
    return Path(found).parent if isinstance(found, str) else None


def cached_repositories() -> list[str]:
    """The repositories of the local cache that hold something like a pipeline, by name."""
    found = []
    for folder in hub_folder().glob("models--*--*"):
        _, owner, name = folder.name.split("--", 2)
        snapshot = snapshot_folder(f"{owner}/{name}")
        if snapshot is not None and (snapshot / "unet" / "config.json").is_file():
            found.append(f"{owner}/{name}")
    return sorted(found, key=str.lower)


def list_repository(repository: str) -> Listing:
    """What a repository holds, asked of the Hub: one request, a few KB.

    Raises UnsupportedModel, which says why it cannot be had.
    """
    from huggingface_hub import HfApi

    try:
        found = HfApi().model_info(repository, files_metadata=True)
    except Exception as problem:  # the errors of whatever HTTP library the Hub's client uses
        raise UnsupportedModel(explain(repository, problem)) from problem
    sizes = {each.rfilename: int(each.size or 0) for each in found.siblings or []}
    return Listing(found.sha or "main", sizes)


def refuse_listing(repository: str, names: Iterable[str]) -> None:
    """Raise UnsupportedModel for a repository whose files cannot be a pipeline in safetensors."""
    names = list(names)
    if "model_index.json" not in names:
        single = next((n for n in sorted(names) if n.endswith(".safetensors") and "/" not in n), "")
        download = f"download {single}" if single else "download its single .safetensors file"
        raise UnsupportedModel(
            f"'{repository}' on the Hub is not a diffusers pipeline; choose one with a "
            f"model_index.json, or {download} and give that."
        )
    for component in ("unet", "vae", "text_encoder"):
        inside = [name for name in names if name.startswith(f"{component}/")]
        if inside and not any(name.endswith(".safetensors") for name in inside):
            raise UnsupportedModel(
                f"'{repository}' has no .safetensors weights of its {component}, and pickled ones "
                "are never loaded; choose a repository with safetensors weights, or convert it "
                "with diffusers' save_pretrained(safe_serialization=True) where you trust it."
            )


def wanted_files(names: Iterable[str], half: bool) -> list[str]:
    """Of a repository's file names, those a pipeline needs: configurations, tokenizers and one
    set of safetensors weights a component, in half precision where asked for and there."""
    names = list(names)
    wanted = ["model_index.json"] if "model_index.json" in names else []
    for component in _COMPONENTS:
        inside = [name for name in names if name.startswith(f"{component}/")]
        wanted += [name for name in inside if name.endswith((".json", ".txt", ".model"))]
        whole, halves = weight_sets(inside)
        wanted += (halves if half and halves else whole) or halves
    return sorted(set(wanted))


def weight_sets(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Of one component's files, its weights in full and in half precision, shards and all.

    "non_ema" and other variants are somebody's training state, not the model.
    """
    weights = [name for name in names if name.endswith(".safetensors")]
    halves = [name for name in weights if _HALF.search(Path(name).name)]
    whole = [name for name in weights if Path(name).name.count(".") == 1]
    return _one_set(whole), _one_set(halves)


def _one_set(weights: list[str]) -> list[str]:
    """Where the same weights come as one file and in shards, the one file."""
    alone = [name for name in weights if not _SHARD.search(Path(name).name)]
    return alone or weights


def explain(repository: str, problem: BaseException) -> str:
    """Why the Hub did not give what was asked for, and what to do, in one sentence."""
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
    )

    if isinstance(problem, HFValidationError):
        return f"'{repository}' is no name of a model on the Hub; give one like owner/name."
    if isinstance(problem, GatedRepoError):
        return (
            f"'{repository}' is gated: accept its terms at https://huggingface.co/{repository}, "
            "then log in with `hf auth login`, or set HF_TOKEN, and start the studio again."
        )
    if isinstance(problem, RepositoryNotFoundError):
        return (
            f"There is no model '{repository}' on the Hub that you may see; check the name, and "
            "log in with `hf auth login` if it is private."
        )
    if HF_HUB_OFFLINE or isinstance(problem, OfflineModeIsEnabled):
        return (
            f"'{repository}' is not in the local Hub cache and HF_HUB_OFFLINE is set; unset it "
            "once to fetch the model, or give a local folder or .safetensors file."
        )
    if isinstance(problem, RemoteEntryNotFoundError):
        return f"'{repository}' was changed on the Hub meanwhile; look at it again."
    if isinstance(problem, LocalEntryNotFoundError) and problem.__cause__ is not None:
        problem = problem.__cause__
    status = getattr(getattr(problem, "response", None), "status_code", None)
    why = type(problem).__name__ if status is None else f"it answered {status}"
    return (
        f"'{repository}' is not in the local Hub cache and the Hub cannot be reached ({why}); "
        "check the connection, or give a local folder or .safetensors file."
    )
