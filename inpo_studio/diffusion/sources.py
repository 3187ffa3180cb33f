"""From what the user calls a model to files on this machine. Torch-free."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from inpo_studio.diffusion.families import UnsupportedModel
from inpo_studio.diffusion.layout import whole_snapshot

EMBEDDED_MODEL = "postcards"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_PICKLED = (".ckpt", ".bin", ".pt", ".pth", ".pkl")


def locate(model: str) -> Path:
    """The pipeline folder or .safetensors file that `model` names.

    'postcards' is the embedded model. A path wins over a Hub id, which names a folder of the Hub's
    local cache. Nothing is fetched. Raises UnsupportedModel in one sentence.
    """
    if model == EMBEDDED_MODEL:
        from inpo_studio.postcards import pipeline_path

        return pipeline_path()
    path = Path(model).expanduser()
    if path.is_dir():
        return path.resolve()
    if path.is_file():
        return _checked_file(path.resolve())
    if is_hub_id(model):
        folder = whole_snapshot(model)
        if folder is not None:
            return folder
        raise UnsupportedModel(
            f"'{model}' is not, or not wholly, on this machine; fetch it with `inpo-studio fetch "
            f"{model}`, or under Workspace."
        )
    raise UnsupportedModel(
        f"There is no model at '{model}'; give '{EMBEDDED_MODEL}', a pipeline folder, a "
        ".safetensors file or a Hub id such as owner/name."
    )


def is_hub_id(model: str) -> bool:
    """Whether a name can only be a repository's on the Hub, like owner/name."""
    path = Path(model).expanduser()
    looks_like_path = path.is_absolute() or path.suffix in (".safetensors", *_PICKLED)
    return bool(_HUB_ID.fullmatch(model)) and not looks_like_path and not model.startswith(".")


def _checked_file(path: Path) -> Path:
    if path.suffix == ".safetensors":
        return path
    if path.suffix in _PICKLED:
        raise UnsupportedModel(
            f"{path.name} is pickled, so opening it could run code, and it is not a .safetensors "
            "file; where you trust it, load it with diffusers' from_single_file and write a "
            "folder with save_pretrained(safe_serialization=True), then give that folder."
        )
    raise UnsupportedModel(
        f"{path.name} is not a .safetensors file; only those and pipeline folders are loaded."
    )


def fingerprint(source: Path, files: Iterable[Path] | None = None) -> str:
    """SHA-256 over names and contents of what a model's pictures depend on.

    `source` is a single file, or the folder that `files` lie in.
    """
    digest = hashlib.sha256()
    paths = [source] if source.is_file() else sorted(files or ())
    for path in paths:
        name = path.name if source.is_file() else path.relative_to(source).as_posix()
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{name}\0{content}\n".encode())
    return digest.hexdigest()
