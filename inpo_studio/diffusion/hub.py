"""Files from the Hub or its local cache; why they cannot be had, in one sentence. Torch-free.

`HF_HOME`, `HF_HUB_OFFLINE` and a token in `HF_TOKEN` are honoured by the Hub's own client.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from inpo_studio.diffusion.families import FAMILIES, UnsupportedModel

CONFIGURATION_FILES = ("*.json", "*/*.json", "*/*.txt")
"""Everything of a pipeline but its weights."""
_COMPONENTS = sorted(
    {"unet", "vae", "scheduler"}
    | {name for f in FAMILIES for s in f.text_encoders for name in (s.folder, s.tokenizer_folder)}
)


def cached_folder(repository: str, needs: str = "model_index.json") -> Path | None:
    """The snapshot of a repository in the local cache, if it is there with the file `needs`."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repository, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError):
        return None
    whole = (folder / "model_index.json").is_file() and (folder / needs).is_file()
    return folder if whole else None


def fetch_files(repository: str, patterns: Sequence[str]) -> Path:
    """Fetch the files of a repository that match; UnsupportedModel says why they cannot be had."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, allow_patterns=list(patterns)))
    except Exception as problem:  # the errors of whatever HTTP library the Hub's client uses
        raise UnsupportedModel(_explain(repository, problem)) from problem


def fetch_pipeline(repository: str) -> Path:
    """The folder of a pipeline on the Hub, from the cache if it is there.

    Fetches configurations, tokenizers and one set of safetensors weights. Raises UnsupportedModel
    when the repository cannot be had or has no such weights.
    """
    folder = cached_folder(repository)
    if folder is not None:
        return folder
    from huggingface_hub import HfApi

    try:
        names = HfApi().list_repo_files(repository)
    except Exception as problem:  # as above
        raise UnsupportedModel(_explain(repository, problem)) from problem
    if "model_index.json" not in names:
        raise UnsupportedModel(
            f"'{repository}' on the Hub is not a diffusers pipeline; choose one with a "
            "model_index.json, or download its single .safetensors file and give that."
        )
    if not any(name.startswith("unet/") and name.endswith(".safetensors") for name in names):
        raise UnsupportedModel(
            f"'{repository}' has no .safetensors weights of a UNet, and pickled ones are never "
            "loaded; choose an SD or SDXL repository with safetensors weights."
        )
    return fetch_files(repository, wanted_files(names, half=False))


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


def _explain(repository: str, problem: Exception) -> str:
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

    if isinstance(problem, GatedRepoError):
        return (
            f"'{repository}' is gated: accept its terms at https://huggingface.co/{repository}, "
            "then log in with `hf auth login`, or set HF_TOKEN."
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
    return (
        f"'{repository}' is not in the local Hub cache and the Hub cannot be reached "
        f"({type(problem).__name__}); check the connection, or give a local folder or "
        ".safetensors file."
    )
