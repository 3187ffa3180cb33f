"""What the studio tells browsers about its answers: what a page may load, run and be put into."""

from __future__ import annotations

import base64
import hashlib
import re

from inpo_studio.ui.doors import App, Message, Receive, Scope, Send

_INLINE = re.compile(
    rb"<script(?![^>]*\ssrc\s*=)[^>]*>(.*?)</script\s*>", re.DOTALL | re.IGNORECASE
)
_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
)
_PAGE = (
    "default-src 'self'",
    # Gradio's own start is written into the page, hence the hashes; it builds its HTML components
    # from text with `Function`, which is what 'unsafe-eval' allows.
    "script-src 'self' 'unsafe-eval'{hashes}",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "font-src 'self' data:",
    "connect-src 'self'",
    "worker-src 'self'",
    "media-src 'self'",
    "object-src 'none'",
    "frame-src 'none'",
    "frame-ancestors 'none'",
    "form-action 'none'",
    "base-uri 'self'",
)
_OTHER = b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
"""For what is no page: opened by itself it shows, and runs nothing."""


class SafeHeaders:
    """ASGI middleware that adds the headers an answer does not set itself."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer pages as a whole, with the hashes of their scripts; the rest as it comes."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await self.app(_plain(scope), receive, _Sender(send).send)


class _Sender:
    """Sends one answer on; a page is held back until its scripts are known."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = bytearray()

    async def send(self, message: Message) -> None:
        """Take the next part of the answer."""
        if message["type"] == "http.response.start":
            names = {name.lower(): value for name, value in message.get("headers", [])}
            page = names.get(b"content-type", b"").startswith(b"text/html")
            if page and b"content-encoding" not in names:
                self._start = message
            else:
                await self._send(_with_headers(message, _OTHER))
        elif self._start is not None and message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                policy = page_policy(bytes(self._body)).encode("ascii")
                await self._send(_with_headers(self._start, policy))
                await self._send({"type": "http.response.body", "body": bytes(self._body)})
        else:
            await self._send(message)


def page_policy(page: bytes) -> str:
    """Return the policy of a page of ours; what is written into it as scripts may run, by hash."""
    hashes = "".join(
        f" 'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode('ascii')}'"
        for script in _INLINE.findall(page)
        if script.strip()
    )
    return "; ".join(_PAGE).format(hashes=hashes)


def _with_headers(message: Message, policy: bytes) -> Message:
    headers = list(message.get("headers", []))
    known = {name.lower() for name, _ in headers}
    wanted = (*_ALWAYS, (b"content-security-policy", policy))
    headers += [(name, value) for name, value in wanted if name not in known]
    return {**message, "headers": headers}


def _plain(scope: Scope) -> Scope:
    """Ask for the page as it is: its scripts are read here, and packing costs more than it saves
    on one machine. Files of Gradio's, which are large and kept, stay packed."""
    if scope["path"].startswith(("/assets/", "/static/")):
        return scope
    headers = [one for one in scope["headers"] if one[0].lower() != b"accept-encoding"]
    return {**scope, "headers": headers}
