"""What would have to be fetched for a model, and fetching it with the Hub's client. Torch-free.

Finished files stay in the Hub's cache, so a download that was stopped goes on with the files it
had not finished. The file under way begins again where the client keeps no part of it.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from inpo_studio.diffusion.client import OnBytes, counting, fetch_one, sweep
from inpo_studio.diffusion.families import (
    UnsupportedModel,
    describe,
    read_configs,
    refuse_other_pipelines,
    refuse_other_schedules,
)
from inpo_studio.diffusion.hub import (
    Listing,
    hub_folder,
    list_repository,
    refuse_listing,
    snapshot_folder,
    wanted_files,
)

Precision = Literal["full", "half"]
_SMALL = (".json", ".txt")
_CONFIGURATIONS = (
    "unet/config.json",
    "vae/config.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder_2/config.json",
)
_SPARE_DISK = 2**30
"""Bytes that must stay free on the disk after a download."""


@dataclass(frozen=True)
class Missing:
    """The files a model needs, and how much of them is here already."""

    repository: str
    files: tuple[str, ...]
    total_bytes: int
    here_bytes: int
    free_bytes: int
    """On the disk of the Hub's cache."""
    precision: Precision = "full"
    full_bytes: int = 0
    half_bytes: int | None = None
    """What all would take in full and in half precision; None where the repository has no half."""

    @property
    def to_fetch(self) -> int:
        """Bytes to fetch."""
        return self.total_bytes - self.here_bytes

    @property
    def sentence(self) -> str:
        """The sizes in one sentence."""
        files = "1 file" if len(self.files) == 1 else f"{len(self.files)} files"
        # A look alone has fetched the configurations already, which is not worth telling.
        worth = self.here_bytes * 100 > self.total_bytes
        here = f"; {size_word(self.here_bytes)} of them are here already" * worth
        free = size_word(self.free_bytes)
        return f"{size_word(self.total_bytes)} in {files}{here}; free on disk: {free}."

    def told(self) -> dict[str, str | None]:
        """The sizes in words, for a page: `half` is None where there is nothing to choose."""
        try:
            self.refuse_full_disk()
            full_disk = ""
        except UnsupportedModel as error:
            full_disk = str(error)
        return {
            "sentence": self.sentence,
            "full_disk": full_disk,
            "precision": self.precision,
            "whole": size_word(self.full_bytes),
            "half": None if self.half_bytes is None else size_word(self.half_bytes),
        }

    def refuse_full_disk(self) -> None:
        """Raise UnsupportedModel where the disk has no room for it."""
        if self.to_fetch and self.to_fetch + _SPARE_DISK > self.free_bytes:
            raise UnsupportedModel(
                f"'{self.repository}' needs {size_word(self.to_fetch)} more on the disk of "
                f"{hub_folder()}, where {size_word(self.free_bytes)} are free; make room, or set "
                "HF_HOME to a folder on another disk."
            )


@dataclass(frozen=True)
class Outline:
    """A model of the Hub, known from its configuration files alone."""

    title: str
    """In plain words, as `families.describe` has it."""
    folder: Path
    """The configurations, in the Hub's cache."""
    missing: Missing


def outline(repository: str, precision: Precision = "full") -> Outline:
    """Look at a repository: fetches a few KB of configurations and no weights.

    Raises UnsupportedModel, one sentence, for what cannot be had or cannot be aligned.
    """
    listing = list_repository(repository)
    refuse_listing(repository, listing.sizes)
    index = fetch_one(repository, "model_index.json")
    refuse_other_pipelines(read_index(index))
    folder = index.parent
    for name in _CONFIGURATIONS:
        if name in listing.sizes:
            fetch_one(repository, name, folder.name)
    configs = read_configs(folder)
    title = describe(configs)
    refuse_other_schedules(configs.scheduler)
    return Outline(title, folder, _missing(repository, listing, precision))


def configuration_files(repository: str) -> Missing:
    """What of a repository's configurations and tokenizers, without any weights, is missing.

    Raises UnsupportedModel where it cannot be had.
    """
    listing = list_repository(repository)
    names = [n for n in listing.sizes if n.endswith(_SMALL) and n.count("/") <= 1]
    names = [n for n in names if ".index." not in n]
    return _of(repository, listing, names)


def download(missing: Missing, on_bytes: OnBytes | None = None) -> Path:
    """Fetch what is missing, one file after the other; returns the folder of the snapshot.

    Raises UnsupportedModel where it cannot be had or the disk is too full.
    """
    missing.refuse_full_disk()
    sweep(missing.repository)
    report = on_bytes or (lambda done, name: None)
    done = 0
    folder: Path | None = None
    for name in sorted(missing.files, key=lambda name: (name != "model_index.json", name)):
        report(done, name)
        commit = None if folder is None else folder.name
        path = fetch_one(missing.repository, name, commit, counting(report, done, name))
        folder = folder or path.parents[name.count("/")]
        done += path.stat().st_size
        report(done, name)
    assert folder is not None
    return folder


def size_word(count: int) -> str:
    """Bytes as a person reads them: 1 GB is 10^9 bytes, as the Hub's pages count."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def read_index(path: Path) -> dict[str, Any]:
    """A model_index.json; raises UnsupportedModel where it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise UnsupportedModel(f"{path} is not valid JSON: download it again.") from problem
    return found if isinstance(found, dict) else {}


def _missing(repository: str, listing: Listing, precision: Precision) -> Missing:
    names = {half: wanted_files(listing.sizes, half=half) for half in (False, True)}
    sizes = {half: sum(listing.sizes[n] for n in chosen) for half, chosen in names.items()}
    halves = sizes[True] if names[True] != names[False] else None
    found = _of(repository, listing, names[precision == "half"])
    return replace(found, precision=precision, full_bytes=sizes[False], half_bytes=halves)


def _of(repository: str, listing: Listing, names: list[str]) -> Missing:
    folder = snapshot_folder(repository)
    here = 0
    if folder is not None and folder.name == listing.commit:
        here = sum(listing.sizes[name] for name in names if (folder / name).is_file())
    total = sum(listing.sizes[name] for name in names)
    return Missing(repository, tuple(names), total, here, free_disk(hub_folder()), full_bytes=total)


def free_disk(folder: Path) -> int:
    """Bytes free on the disk that a folder is, or will be, on."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
