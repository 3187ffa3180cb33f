"""Single files by the Hub's own client, with what it reports on the way. Torch-free."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inpo_studio.diffusion.families import UnsupportedModel
from inpo_studio.diffusion.hub import explain, hub_folder

LEFT_OVER_S = 3600.0
"""Parts of files that nobody has written to for so long belong to a download that was killed."""

OnBytes = Callable[[int, str], None]
"""on_bytes(bytes of this download done, name of the file under way); raise in it to stop."""


def finer_steps() -> None:
    """Let the Hub's client of this process report every megabyte, not every ten."""
    from huggingface_hub import constants

    constants.DOWNLOAD_CHUNK_SIZE = 2**20


def fetch_one(repository: str, name: str, commit: str | None = None, bar: Any = None) -> Path:
    """One file into the Hub's cache. Without a commit the newest, which is then the cache's too.

    `bar` is a class like `counting` makes. Raises UnsupportedModel where it cannot be had.
    """
    from huggingface_hub import hf_hub_download

    shown: Any = bar or _Silent
    try:
        found = hf_hub_download(repository, name, revision=commit, tqdm_class=shown)
    except Exception as problem:  # the errors of whatever HTTP library the Hub's client uses
        if isinstance(problem, UnsupportedModel):
            raise
        raise UnsupportedModel(explain(repository, problem)) from problem
    return Path(found)


def sweep(repository: str) -> None:
    """Remove the parts of files that a killed download has left behind and nobody can use."""
    blobs = hub_folder() / f"models--{repository.replace('/', '--')}" / "blobs"
    for path in blobs.glob("*.incomplete"):
        try:
            if time.time() - path.stat().st_mtime > LEFT_OVER_S:
                path.unlink()
        except OSError:
            continue  # another download's, or gone


class _Silent:
    """Stands in for a progress bar of the Hub's client: counts, and shows nothing.

    The client makes one a file, some of its ways of fetching report to both `update` methods.
    """

    def __init__(self, *_: Any, initial: int = 0, **__: Any) -> None:
        self.total: int | None = None
        self.n = 0
        self.format_dict: dict[str, Any] = {}
        self.update(initial)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        return None

    def update(self, count: float | None = 1) -> None:
        """Take in that so many more bytes are written."""
        self.n += int(count or 0)

    def update_transfer(self, count: float | None = 1) -> None:
        """Take in that so many bytes have arrived; they are counted when they are written."""

    def __getattr__(self, name: str) -> Any:
        """Whatever else a bar is told: what to write beside it, to close, to refresh."""
        return lambda *_, **__: None


def counting(report: OnBytes, before: int, name: str) -> type[_Silent]:
    """A bar that reports `before` and the bytes of one file."""

    class Counting(_Silent):
        def update(self, count: float | None = 1) -> None:
            super().update(count)
            report(before + self.n, name)

    return Counting
