"""A terminal with a workspace of its own, and the studio's fixture."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import Terminal
from tests.studio.conftest import studio

__all__ = ["studio", "terminal"]


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)
