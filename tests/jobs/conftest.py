"""A studio in a fresh workspace, with locks of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from inpo_studio.studio import Studio, open_studio
from tests.jobs.support import settings_in


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INPO_STUDIO_LOCK_DIR", str(tmp_path / "locks"))


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    opened = open_studio(settings_in(tmp_path / "workspace"))
    yield opened
    opened.close()
