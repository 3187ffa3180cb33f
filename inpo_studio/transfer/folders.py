"""A folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from inpo_studio.studio.errors import StudioError


def check_free(target: Path) -> None:
    """Raise StudioError unless `target` is new or an empty folder that can be replaced."""
    try:
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            raise StudioError(f"{target} is not a folder; name one that is new or empty.")
        if target.is_dir() and any(target.iterdir()):
            raise StudioError(f"{target} is not empty; name a folder that is new or empty.")
        parent = target.absolute().parent
        while not parent.exists():
            parent = parent.parent
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise StudioError(f"{target} cannot be made; {parent} is not a writable folder.")
    except OSError as error:
        raise StudioError(f"{target} cannot be used ({error.strerror}).") from error


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target` that takes its name when the block ends well."""
    check_free(target)
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield scratch
        scratch.chmod(0o777 & ~_umask())
        if target.exists():
            target.rmdir()
        scratch.rename(target)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
