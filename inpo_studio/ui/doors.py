"""Who may speak to the studio: requests addressed to it, from pages of its own; and who that is.

A browser lets any page send requests to 127.0.0.1. Checking Host stops a foreign name that was
made to point here (DNS rebinding); checking Origin, and what the browser says of where a request
comes from, stops foreign pages: those that post, and those that only look.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from inpo_studio.settings import is_loopback
from inpo_studio.studio.label.choices import DEFAULT_ANNOTATOR

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

USER = "inpo_studio_user"
"""Where the user's name is kept in the scope of a request; nothing that comes in sets it."""
OWNER = "inpo_studio_owner"
"""Where it is kept whether the user sits at this machine; nothing that comes in sets it."""
LARGEST_REQUEST = 8 * 2**20
"""Bytes; the largest that a page sends is a list of prompts."""

_FORWARDED = (b"forwarded", b"x-forwarded-", b"x-gradio-server", b"x-original-", b"x-real-ip")
_FOREIGN_HOST = "This studio answers to 127.0.0.1 and localhost only."
_FOREIGN_PAGE = "This studio takes requests from its own pages only."
_TOO_LARGE = f"This is more than {LARGEST_REQUEST >> 20} MB; send less at once."


class Doors:
    """ASGI middleware that answers 403 to a foreign Host and to foreign pages.

    What it lets in carries the user: on a studio without log-in, the one person at this machine.
    """

    def __init__(self, app: App, user: str = DEFAULT_ANNOTATOR) -> None:
        self.app = app
        self._user = user

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it with one plain sentence."""
        if scope["type"] == "websocket":  # no page of ours opens one
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http":
            refusal = refuse(scope["method"], scope["path"], scope["headers"])
            if refusal:
                await answer(send, 403, refusal)
                return
            if _length(scope) > LARGEST_REQUEST:
                await answer(send, 413, _TOO_LARGE)
                return
            # What a proxy would say of the address is not believed: there is none.
            headers = [one for one in scope["headers"] if not one[0].lower().startswith(_FORWARDED)]
            came_straight = len(headers) == len(scope["headers"])
            owner = came_straight and is_loopback((scope.get("client") or ("",))[0])
            scope = {**scope, "headers": headers, USER: self._user, OWNER: owner}
            receive = _counted(receive)
        await self.app(scope, receive, send)


def user_of(scope: Scope) -> str:
    """Return who sent a request; PermissionError for one that did not come through the doors."""
    user = scope.get(USER)
    if not isinstance(user, str) or not user:
        raise PermissionError("This request did not come through the studio's doors.")
    return user


def is_owner(scope: Scope) -> bool:
    """Say whether a request is of the person at this machine, who may name its files.

    It came through the doors, from this machine, and no proxy says that it comes from elsewhere.
    """
    user_of(scope)
    return scope.get(OWNER) is True


def refuse(method: str, path: str, headers: list[tuple[bytes, bytes]]) -> str:
    """Say why a request is refused; an empty string lets it in.

    Only the studio's first page may be come to from elsewhere, by a link or a bookmark.
    """
    hosts = _all(headers, b"host")
    if len(hosts) != 1 or not _ours(f"//{hosts[0]}"):
        return _FOREIGN_HOST
    own = _port_and_name(f"http://{hosts[0]}")
    if any(_port_and_name(origin) != own for origin in _all(headers, b"origin")):
        return _FOREIGN_PAGE
    sites = set(_all(headers, b"sec-fetch-site"))
    if sites <= {"same-origin", "none"}:
        return ""
    followed = _all(headers, b"sec-fetch-dest") == ["document"] and method in ("GET", "HEAD")
    return "" if followed and path == "/" else _FOREIGN_PAGE


async def answer(send: Send, status: int, sentence: str) -> None:
    """Answer a request with one plain sentence."""
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": sentence.encode("utf-8")})


def _counted(receive: Receive) -> Receive:
    """Cut off a request that goes on for longer than it may."""
    seen = 0

    async def count() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return {"type": "http.disconnect"} if seen > LARGEST_REQUEST else message

    return count


def _length(scope: Scope) -> int:
    stated = _all(scope["headers"], b"content-length")
    return int(stated[0]) if stated and stated[0].isdigit() else 0


def _ours(url: str) -> bool:
    name = _port_and_name(url)[1]
    return bool(name) and is_loopback(name)


def _port_and_name(url: str) -> tuple[int | None, str]:
    try:
        parts = urlsplit(url)
        return parts.port, (parts.hostname or "").lower()
    except ValueError:
        return None, ""


def _all(headers: list[tuple[bytes, bytes]], name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key.lower() == name]
