from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from storage.errors import DiskFull, InvalidInput
from storage.files import FileStore


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "files")


def a_png(**options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 40, 10)).save(buffer, format="PNG", **options)
    return buffer.getvalue()


def test_bytes_are_found_by_their_hash(store: FileStore) -> None:
    content = os.urandom(1000)
    sha256 = store.put_bytes("latents", content, ".safetensors")
    assert sha256 == hashlib.sha256(content).hexdigest()
    path = store.path("latents", sha256, ".safetensors")
    assert path.read_bytes() == content
    assert path.relative_to(store.root).parts[:3] == ("latents", sha256[:2], sha256[2:4])


def test_the_same_content_is_written_once(store: FileStore) -> None:
    path = store.path("latents", store.put_bytes("latents", b"same"))
    before = path.stat()
    store.put_bytes("latents", b"same")
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_pictures_lose_their_metadata_and_keep_their_pixels(store: FileStore) -> None:
    note = PngImagePlugin.PngInfo()
    note.add_text("secret", "where I live")
    with Image.open(io.BytesIO(a_png(pnginfo=note))) as image:
        image.load()
        sha256 = store.put_image(image)
        assert b"where I live" not in store.image_path(sha256).read_bytes()
        with Image.open(store.image_path(sha256)) as stored:
            assert stored.tobytes() == image.tobytes()
        assert store.put_image(image) == sha256
    assert store.image_path(store.put_image(a_png())).read_bytes() == a_png()


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"<svg/>", a_png()[:60], a_png()[:-30]])
def test_what_is_no_whole_png_is_refused(store: FileStore, content: bytes) -> None:
    with pytest.raises(InvalidInput, match="not a whole PNG"):
        store.put_image(content)
    assert not store.root.exists()


@pytest.mark.parametrize(
    ("kind", "sha256", "suffix"),
    [
        ("..", "a" * 64, ""),
        ("images", "../../etc/passwd", ".png"),
        ("images", "A" * 64, ".png"),
        ("images", "a" * 64 + "\n", ".png"),
        ("images", "a" * 64, "/../x"),
    ],
)
def test_only_names_of_stored_files_become_paths(
    store: FileStore, kind: str, sha256: str, suffix: str
) -> None:
    with pytest.raises(InvalidInput, match="not the name of a stored file"):
        store.path(kind, sha256, suffix)


def test_content_is_on_disk_before_it_has_its_name(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_sync(descriptor: int) -> None:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        steps.append("sync folder" if folder else "sync file")
        fsync(descriptor)

    def note_rename(path: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_rename)
    store.put_bytes("latents", b"content")
    assert steps[-3:] == ["sync file", "rename", "sync folder"]


def test_a_full_disk_leaves_nothing_behind(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DiskFull, match="disk is full"):
        store.put_bytes("latents", b"content")
    assert [path for path in store.root.rglob("*") if path.is_file()] == []
