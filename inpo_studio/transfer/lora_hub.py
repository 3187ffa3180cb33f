"""A LoRA of the Hub: which of a repository's files it is, and that file alone."""

from __future__ import annotations

from pathlib import Path

from inpo_studio.diffusion.client import fetch_one
from inpo_studio.diffusion.downloads import size_word
from inpo_studio.diffusion.families import UnsupportedModel
from inpo_studio.diffusion.hub import list_repository
from inpo_studio.studio.errors import StudioError
from inpo_studio.transfer.adapters import PEFT_CONFIG
from inpo_studio.transfer.lora_files import choose_file, find_lora

MOST_BYTES = 2 * 10**9
"""A LoRA of every layer of SDXL at rank 128 has some 0.8 GB; what is larger is a model."""


def fetch_lora(repository: str) -> Path:
    """The LoRA file of a repository, from the Hub or, where that cannot be asked, from its cache.

    Its size is asked first. Raises StudioError, one sentence, where there is none, several, or
    one too large to be a LoRA.
    """
    try:
        listing = list_repository(repository)
    except UnsupportedModel as error:
        cached = _cached(repository)
        if cached is None:
            raise StudioError(str(error)) from error
        return find_lora(cached)
    at_the_top = [name for name in listing.sizes if "/" not in name]
    name = choose_file(at_the_top, f"'{repository}' on the Hub", "download one and give its path")
    size = listing.sizes[name]
    if size > MOST_BYTES:
        raise StudioError(
            f"{name} of '{repository}' has {size_word(size)}, too much for a LoRA; where it is a "
            "model, open it under Workspace or with --model."
        )
    try:
        file = fetch_one(repository, name)
        if PEFT_CONFIG in at_the_top:
            fetch_one(repository, PEFT_CONFIG, file.parent.name)
        return file
    except UnsupportedModel as error:
        raise StudioError(str(error)) from error


def _cached(repository: str) -> Path | None:
    """The repository's folder in the Hub's cache, if anything of it is there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
