"""Pictures of a blind vote: random addresses, kept nowhere, with nothing that tells them apart."""

from __future__ import annotations

import fastapi
from fastapi.responses import PlainTextResponse, Response

from inpo_studio.ui.blind.tickets import TICKETS, Tickets
from inpo_studio.ui.doors import user_of

PATH = "/blind/"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


def add_blind_pictures(app: fastapi.FastAPI, tickets: Tickets = TICKETS) -> None:
    """Serve pictures below PATH; must come before what is mounted at the root."""

    @app.get(PATH + "{token}")
    def blind_picture(token: str, request: fastapi.Request) -> Response:
        content = tickets.picture(user_of(request.scope), token)
        if content is None:
            return PlainTextResponse(
                "There is no such picture.", status_code=404, headers={"Cache-Control": "no-store"}
            )
        return Response(content, media_type="image/png", headers=_HEADERS)
