"""The model card: what the page may call to look at models, fetch one and change to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import gradio as gr
from pydantic import ConfigDict, Field

from inpo_studio.studio import Studio
from inpo_studio.studio.model.fetching import Fetching
from inpo_studio.studio.model.models import (
    LONGEST_NAME,
    Found,
    examine_model,
    offers,
    present_model,
)
from inpo_studio.studio.model.switching import use_model
from inpo_studio.ui.answering import Answer, StudioMessage, answer
from inpo_studio.ui.doors import is_owner

_NOT_YOURS = "Only the person at the machine that this studio runs on can change its model."
_ORIGINS = {
    "studio": "Ships with the studio.",
    "hub": "The Hugging Face Hub, kept in {place}",
    "folder": "The folder {place}",
    "file": "The file {place}",
}
_BESIDE = "The file holds weights only; what says how to read them is that of {repository}: "
_ELSEWHERE = {
    "studio": "Ships with the studio.",
    "hub": "The Hugging Face Hub.",
    "folder": "A folder of the studio's machine.",
    "file": "A file of the studio's machine.",
}
"""What others than the owner are told, who need not know where things lie."""


class Looked(StudioMessage):
    """How things stand."""


class Named(StudioMessage):
    """A model that somebody typed or chose from the list."""

    model_config = ConfigDict(strict=True)

    name: str = Field(max_length=LONGEST_NAME)
    precision: Literal["full", "half"] | None = None


Message = TypeVar("Message", bound=StudioMessage)


def server_functions(
    studio: Studio, fetching: Fetching | None = None
) -> list[Callable[..., Answer]]:
    """Return what the page may call.

    Whoever names a model may ask after files of this machine by it, so only its owner may.
    """
    downloads = fetching or Fetching(studio.settings)

    def examine(message: Named) -> Found:
        return examine_model(message.name, studio.settings.device, message.precision)

    def look_model(data: Any, request: gr.Request) -> Answer:
        owner = is_owner(request.scope)
        return answer("", Looked, data, lambda _: _standing(studio, downloads, owner))

    def find_model(data: Any, request: gr.Request) -> Answer:
        def work(message: Named) -> Answer:
            return {"found": _found(examine(message))}

        return _guarded(Named, data, request, work)

    def fetch_model(data: Any, request: gr.Request) -> Answer:
        def work(message: Named) -> Answer:
            found = examine(message)
            downloads.begin(found)
            return {"fetching": found.name}

        return _guarded(Named, data, request, work)

    def stop_fetch(data: Any, request: gr.Request) -> Answer:
        def work(message: Looked) -> Answer:
            downloads.stop()
            return {}

        return _guarded(Looked, data, request, work)

    def take_model(data: Any, request: gr.Request) -> Answer:
        def work(message: Named) -> Answer:
            return {"used": use_model(studio, message.name).name}

        return _guarded(Named, data, request, work)

    return [look_model, find_model, fetch_model, stop_fetch, take_model]


def _guarded(
    kind: type[Message], data: Any, request: gr.Request, work: Callable[[Message], Answer]
) -> Answer:
    if not is_owner(request.scope):
        return {"refused": _NOT_YOURS}
    return answer("", kind, data, work, elsewhere="refused")


def _standing(studio: Studio, downloads: Fetching, owner: bool) -> Answer:
    present = present_model(studio)
    if not owner:
        told = _found(present)
        hidden = {"name": told["short"], "from": _ELSEWHERE[present.origin], "problem": ""}
        return {"owner": False, "present": told | hidden}
    state = downloads.state()
    return {
        "owner": True,
        "present": _found(present),
        "offers": [vars(offer) for offer in offers(studio) if not offer.present],
        "fetch": None if state is None else state.model_dump(exclude={"folder", "at"}),
    }


def _found(found: Found) -> Answer:
    missing = found.missing
    told = None if missing is None or not missing.to_fetch else missing.told()
    if missing is not None and told is not None and found.origin == "file":
        told["sentence"] = _BESIDE.format(repository=missing.repository) + str(told["sentence"])
    return {
        "name": found.name,
        "short": found.name if found.origin in ("studio", "hub") else Path(found.name).name,
        "title": found.title,
        "from": _ORIGINS[found.origin].format(place=found.place or found.name),
        "size": found.size,
        "fits": found.fits,
        "plan": found.plan,
        "problem": found.problem,
        "ready": found.ready,
        "missing": told,
    }
