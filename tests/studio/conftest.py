"""An open studio in a workspace of its own; tests of other rooms import this fixture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from inpo_studio.settings import Settings
from inpo_studio.studio import Studio, open_studio


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    monkeypatch.setenv("INPO_STUDIO_LOCK_DIR", str(tmp_path / "locks"))
    opened = open_studio(Settings(workspace=tmp_path / "workspace"))
    yield opened
    opened.close()
