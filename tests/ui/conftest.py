"""The terminal's and the studio's fixtures, shared."""

from tests.cli.conftest import terminal
from tests.studio.conftest import studio

__all__ = ["studio", "terminal"]
