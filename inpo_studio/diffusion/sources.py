"""From what the user calls a model to files on this machine."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from inpo_studio.diffusion.families import FAMILIES, UnsupportedModel

EMBEDDED_MODEL = "postcards"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_COMPONENTS = sorted(
    {"unet", "vae", "scheduler"}
    | {name for f in FAMILIES for s in f.text_encoders for name in (s.folder, s.tokenizer_folder)}
)


def locate(model: str) -> Path:
    """The pipeline folder or .safetensors file that `model` names.

    'postcards' is the embedded model. A path wins over a Hub id; only a Hub id that is not in the
    local cache reaches the network. Raises UnsupportedModel in one sentence.
    """
    if model == EMBEDDED_MODEL:
        from inpo_studio.postcards import pipeline_path

        return pipeline_path()
    path = Path(model).expanduser()
    if path.is_dir():
        return path.resolve()
    if path.is_file():
        if path.suffix != ".safetensors":
            raise UnsupportedModel(
                f"{path.name} is not a .safetensors file; only those are loaded, so convert it "
                "first."
            )
        return path.resolve()
    if _HUB_ID.fullmatch(model):
        return _download(model)
    raise UnsupportedModel(
        f"There is no model at '{model}'; give '{EMBEDDED_MODEL}', a pipeline folder, a "
        ".safetensors file or a Hub id such as owner/name."
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


def wanted_files(names: Iterable[str], half: bool) -> list[str]:
    """Of a repository's file names, those a pipeline needs: configurations, tokenizers and one
    set of safetensors weights a component, in half precision where asked for and there."""
    names = list(names)
    wanted = ["model_index.json"] if "model_index.json" in names else []
    for component in _COMPONENTS:
        inside = [name for name in names if name.startswith(f"{component}/")]
        wanted += [name for name in inside if name.endswith((".json", ".txt", ".model"))]
        weights = [name for name in inside if name.endswith(".safetensors")]
        halves = [name for name in weights if ".fp16." in Path(name).name]
        # "non_ema" and other variants are somebody's training state, not the model.
        whole = [name for name in weights if Path(name).name.count(".") == 1]
        wanted += (halves if half and halves else whole) or halves
    return sorted(set(wanted))


def _download(model: str) -> Path:
    """The folder of a Hub repository's snapshot, from the local cache if it is there."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(model, local_files_only=True))
        if (folder / "model_index.json").is_file():
            return folder
    except LocalEntryNotFoundError:
        pass
    try:
        names = HfApi().list_repo_files(model)
        return Path(snapshot_download(model, allow_patterns=wanted_files(names, half=False)))
    except Exception as problem:  # the errors of whatever HTTP library the Hub's client uses
        raise UnsupportedModel(
            f"'{model}' could not be fetched from the Hub ({type(problem).__name__}); check the "
            "name, your access to it and the connection, or give a local folder."
        ) from problem
