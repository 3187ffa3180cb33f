"""The studio's fixture, shared."""

from tests.studio.conftest import studio

__all__ = ["studio"]
