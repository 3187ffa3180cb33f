"""What a page is told when its message cannot be acted on."""

from __future__ import annotations

from typing import Any

import pytest

from inpo_studio.engine import EngineError
from inpo_studio.studio.errors import StudioError
from inpo_studio.ui.answering import StudioMessage, answer
from storage.errors import InvalidInput, StorageError, Transient


def told(error: Exception) -> dict[str, Any]:
    def work(message: StudioMessage) -> dict[str, Any]:
        raise error

    return answer("here", StudioMessage, {"studio": "here"}, work)


@pytest.mark.parametrize("kind", Transient.__subclasses__())
def test_what_may_pass_is_to_be_sent_again(kind: type[StorageError]) -> None:
    """A page drops what was refused: a click must not be lost to a server that restarts."""
    assert told(kind("Not now.")) == {"retry": "Not now."}


@pytest.mark.parametrize("kind", [InvalidInput, StudioError, EngineError])
def test_what_cannot_pass_is_refused(kind: type[Exception]) -> None:
    assert told(kind("Never.")) == {"refused": "Never."}
