"""Pictures by opaque ids: a route of the studio's own, which lets browsers keep what it gives.

An id is that of a picture people choose by, or of a sample that a round drew on its way.
"""

from __future__ import annotations

import re
from pathlib import Path

import fastapi
from fastapi.responses import FileResponse, PlainTextResponse, Response

from inpo_studio.studio import Studio
from inpo_studio.ui.doors import user_of
from storage.schema import Image, Sample

PATH = "/pictures/"
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_HEADERS = {
    # An id never changes its picture.
    "Cache-Control": "private, max-age=31536000, immutable",
}


def add_pictures(app: fastapi.FastAPI, studio: Studio) -> None:
    """Serve the studio's pictures below PATH; must come before what is mounted at the root."""

    @app.get(PATH + "{picture_id}")
    def picture(picture_id: str, request: fastapi.Request) -> Response:
        user_of(request.scope)
        found = _find(studio, picture_id) if _ID.match(picture_id) else None
        if found is None or not found.is_file():
            return PlainTextResponse("There is no such picture.", status_code=404)
        return FileResponse(found, media_type="image/png", headers=_HEADERS)


def _find(studio: Studio, picture_id: str) -> Path | None:
    with studio.database.read() as session:
        row = session.get(Image, picture_id) or session.get(Sample, picture_id)
        return None if row is None else studio.files.image_path(row.sha256)
