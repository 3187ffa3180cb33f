"""Files by the hash of their content, whole or not there at all.

A file is written beside its place, synced, and renamed: after a crash the name either is
missing or holds all bytes. Names are hashes, so writing twice is harmless.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
from pathlib import Path

from PIL import Image

from storage.errors import InvalidInput
from storage.failures import as_storage_error

_HASH = re.compile(r"[0-9a-f]{64}\Z")
_KIND = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")
_SUFFIX = re.compile(r"(\.[a-z0-9]{1,16})?\Z")


class FileStore:
    """Files under `root`, as `KIND/ab/cd/HASH.suffix`; folders are made when needed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put_image(self, image: bytes | Image.Image) -> str:
        """Store a picture as PNG; returns the SHA-256 of its file.

        Bytes must be a PNG and are kept as they are; an image is encoded without metadata.
        Raises InvalidInput for bytes that are no PNG, DiskFull.
        """
        if isinstance(image, Image.Image):
            plain = Image.new(image.mode, image.size)
            plain.paste(image)
            buffer = io.BytesIO()
            plain.save(buffer, format="PNG")
            return self.put_bytes("images", buffer.getvalue(), ".png")
        try:
            with Image.open(io.BytesIO(image), formats=["PNG"]) as opened:
                opened.verify()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InvalidInput("The picture is not a whole PNG file; save it as PNG.") from error
        return self.put_bytes("images", image, ".png")

    def image_path(self, sha256: str) -> Path:
        """Where a stored picture is, or would be."""
        return self.path("images", sha256, ".png")

    def put_bytes(self, kind: str, content: bytes, suffix: str = "") -> str:
        """Store bytes of one kind ("latents", …); returns their SHA-256. Raises DiskFull."""
        sha256 = hashlib.sha256(content).hexdigest()
        path = self.path(kind, sha256, suffix)
        if not path.exists():
            try:
                write_durably(path, content)
            except OSError as error:
                raise as_storage_error(error) or error from error
        return sha256

    def path(self, kind: str, sha256: str, suffix: str = "") -> Path:
        """Where a file is, or would be; InvalidInput for anything but a kind, hash and suffix."""
        if not (_KIND.match(kind) and _HASH.match(sha256) and _SUFFIX.match(suffix)):
            raise InvalidInput(f"{kind}/{sha256}{suffix} is not the name of a stored file.")
        return self.root / kind / sha256[:2] / sha256[2:4] / (sha256 + suffix)


def write_durably(path: Path, content: bytes) -> None:
    """Write a file so that after a crash it is whole or absent; makes its folders."""
    _make_folder(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable; Windows has no way to, and does it by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_folder(folder: Path) -> None:
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        sync_folder(new.parent)
