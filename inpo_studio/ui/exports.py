"""Exported adapters by round and form: a route that sends what a page has had made ready."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import fastapi
from fastapi.responses import FileResponse, PlainTextResponse, Response

from inpo_studio.studio import Studio
from inpo_studio.studio.align.watching import round_of_model
from inpo_studio.studio.errors import StudioError
from inpo_studio.transfer.adapters import Form
from inpo_studio.transfer.handing_out import Handout, ready
from inpo_studio.ui.doors import user_of
from storage.errors import NotFound

PATH = "/exports/"
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_KINDS = {".zip": "application/zip", ".safetensors": "application/octet-stream"}
_HEADERS = {"Cache-Control": "no-store"}
_NOT_THERE = "There is no such export; press Download under its round."


def add_exports(app: fastapi.FastAPI, studio: Studio) -> None:
    """Serve exports below PATH; must come before what is mounted at the root."""

    @app.get(PATH + "{round_id}/{form}")
    def export(round_id: str, form: str, request: fastapi.Request) -> Response:
        user_of(request.scope)
        found = _find(studio, round_id, form)
        return _missing() if found is None else _sent(found.path)

    @app.get(PATH + "{round_id}/{form}/card")
    def card(round_id: str, form: str, request: fastapi.Request) -> Response:
        user_of(request.scope)
        found = _find(studio, round_id, form)
        if found is None:
            return _missing()
        return _sent(found.card, found.path.stem + ".md")


def _find(studio: Studio, round_id: str, form: str) -> Handout | None:
    if not _ID.match(round_id) or form not in get_args(Form):
        return None
    try:
        with studio.database.read() as session:
            row = round_of_model(session, studio.settings.model, round_id)
        return ready(studio, row, form)  # type: ignore[arg-type]
    except (NotFound, StudioError):
        return None


def _sent(path: Path, name: str | None = None) -> Response:
    kind = _KINDS.get(path.suffix, "text/markdown; charset=utf-8")
    return FileResponse(path, media_type=kind, filename=name or path.name, headers=_HEADERS)


def _missing() -> Response:
    return PlainTextResponse(_NOT_THERE, status_code=404, headers=_HEADERS)
