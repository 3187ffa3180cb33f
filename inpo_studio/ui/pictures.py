"""Pictures by opaque ids: a route of the studio's own, which lets browsers keep what it gives."""

from __future__ import annotations

import re

import fastapi
from fastapi.responses import FileResponse, PlainTextResponse, Response

from inpo_studio.studio import Studio
from inpo_studio.ui.doors import user_of
from storage.errors import NotFound
from storage.images import get_image

PATH = "/pictures/"
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_HEADERS = {
    # An id never changes its picture.
    "Cache-Control": "private, max-age=31536000, immutable",
    "Content-Security-Policy": "default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def add_pictures(app: fastapi.FastAPI, studio: Studio) -> None:
    """Serve the studio's pictures below PATH; must come before what is mounted at the root."""

    @app.get(PATH + "{image_id}")
    def picture(image_id: str, request: fastapi.Request) -> Response:
        user_of(request.scope)
        found = None
        if _ID.match(image_id):
            try:
                with studio.database.read() as session:
                    found = studio.files.image_path(get_image(session, image_id).sha256)
            except NotFound:
                found = None
        if found is None or not found.is_file():
            return PlainTextResponse("There is no such picture.", status_code=404)
        return FileResponse(found, media_type="image/png", headers=_HEADERS)
