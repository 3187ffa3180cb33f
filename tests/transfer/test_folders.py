"""A folder appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from inpo_studio.studio.errors import StudioError
from inpo_studio.transfer.folders import check_free, new_folder


def test_it_takes_its_name_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    with new_folder(target) as folder:
        (folder / "file").write_text("whole")
        assert not target.exists()
    assert (target / "file").read_text() == "whole"
    assert [path.name for path in target.parent.iterdir()] == ["folder"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with new_folder(tmp_path / "folder") as folder:
            (folder / "file").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("full", "full/file", "link", "full/file/below"):
        with pytest.raises(StudioError):
            check_free(tmp_path / name)
