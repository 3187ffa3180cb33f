"""How the server functions of every page answer: a checked message, and errors as one sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inpo_studio.engine import EngineError
from inpo_studio.studio import Studio
from inpo_studio.studio.errors import StudioError
from storage.errors import StorageError, Transient

Answer = dict[str, Any]
_ELSEWHERE = "This page belongs to another workspace; reload it."
_UNREADABLE = "The page sent something that cannot be read; reload it."


class StudioMessage(BaseModel):
    """What every message says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    studio: str = Field("", max_length=64)
    """The workspace the page was opened on; empty before the first answer."""


Message = TypeVar("Message", bound=StudioMessage)


def answer(
    name: str,
    kind: type[Message],
    data: Any,
    work: Callable[[Message], Answer],
    *,
    unreadable: str = _UNREADABLE,
    elsewhere: Literal["retry", "refused"] = "retry",
) -> Answer:
    """Check a message to the workspace `name` and do its work.

    The answer holds `retry` where sending the same again may help, `refused` where it will not;
    each is one sentence. A message of another workspace is `elsewhere`: `retry` keeps what a page
    has not sent yet.
    """
    try:
        message = kind.model_validate(data)
        if message.studio not in ("", name):
            return {elsewhere: _ELSEWHERE}
        return work(message)
    except ValidationError:
        return {"refused": unreadable}
    except Transient as error:
        return {"retry": str(error)}
    except (StorageError, StudioError, EngineError) as error:
        return {"refused": str(error)}


def studio_name(studio: Studio) -> str:
    """Return a name of the workspace for the browser, which tells nothing of its place."""
    place = f"{studio.settings.workspace}\x1f{studio.settings.database_url}"
    return hashlib.sha256(place.encode("utf-8")).hexdigest()[:16]
