"""Who may speak to the studio: requests addressed to it, from pages of its own; and who that is.

A browser lets any page send requests to 127.0.0.1. Checking Host stops a foreign name that was
made to point here (DNS rebinding); checking Origin stops a foreign page that posts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from inpo_studio.settings import is_loopback
from inpo_studio.studio.choices import DEFAULT_ANNOTATOR

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_HARMLESS = {"GET", "HEAD"}


USER = "inpo_studio_user"
"""Where the user's name is kept in the scope of a request; nothing that comes in sets it."""


class Doors:
    """ASGI middleware that answers 403 to a foreign Host, and to a foreign Origin that writes.

    What it lets in carries the user: on a studio without log-in, the one person at this machine.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it with one plain sentence."""
        if scope["type"] in ("http", "websocket"):
            refusal = refuse(scope.get("method", "WEBSOCKET"), _headers(scope))
            if refusal:
                await _answer(scope, send, refusal)
                return
            scope = {**scope, USER: DEFAULT_ANNOTATOR}
        await self.app(scope, receive, send)


def user_of(scope: Scope) -> str:
    """Return who sent a request; PermissionError for one that did not come through the doors."""
    user = scope.get(USER)
    if not isinstance(user, str) or not user:
        raise PermissionError("This request did not come through the studio's doors.")
    return user


def refuse(method: str, headers: dict[str, str]) -> str:
    """Say why a request is refused; an empty string lets it in."""
    host = headers.get("host", "")
    if not _ours(f"//{host}"):
        return "This studio answers to 127.0.0.1 and localhost only."
    origin = headers.get("origin")
    if (
        method not in _HARMLESS
        and origin is not None
        and _port_and_name(origin) != (_port_and_name(f"http://{host}"))
    ):
        return "This studio takes requests from its own pages only."
    return ""


def _ours(url: str) -> bool:
    name = _port_and_name(url)[1]
    return bool(name) and is_loopback(name)


def _port_and_name(url: str) -> tuple[int | None, str]:
    try:
        parts = urlsplit(url)
        return parts.port, (parts.hostname or "").lower()
    except ValueError:
        return None, ""


def _headers(scope: Scope) -> dict[str, str]:
    return {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
    }


async def _answer(scope: Scope, send: Send, sentence: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": sentence.encode("utf-8")})
