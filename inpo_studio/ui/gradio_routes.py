"""Which of Gradio's routes are open: those that the studio's pages use, and no others.

Gradio also has routes that fetch addresses for the caller, describe every function, watch the
server, keep links to a page's state, log people in or rewrite the app. None of them is needed.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs

from inpo_studio.ui.doors import App, Receive, Scope, Send, answer

_API = "/gradio_api"
_FILE = f"{_API}/file="
_READ = re.compile(
    r"/|/config|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt"
    r"|/(assets|static|svelte)/[\w./@+-]+"
    rf"|{_API}/(startup-events|app_id|theme\.css|queue/data|heartbeat/\w+)"
)
_SENT = re.compile(rf"{_API}/(component_server/?|queue/join|cancel|reset/?|run/\w+)")
_CACHE = "GRADIO_TEMP_DIR"


class OpenRoutes:
    """ASGI middleware around Gradio that answers 404 to everything its pages do not need."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is open."""
        if scope["type"] == "http" and not is_open(
            scope["method"], scope["path"], scope.get("query_string", b"")
        ):
            await answer(send, 404, "There is nothing here.")
            return
        await self.app(scope, receive, send)


def is_open(method: str, path: str, query: bytes = b"") -> bool:
    """Say whether the studio's pages need this request; `path` is decoded, without the mount's."""
    if b"deep_link" in query or "deep_link" in parse_qs(query.decode("latin-1")):
        return False
    if method == "POST":
        return bool(_SENT.fullmatch(path))
    if method not in ("GET", "HEAD"):
        return False
    if path.startswith(_FILE):
        return is_kept(path.removeprefix(_FILE))
    return bool(_READ.fullmatch(path)) and ".." not in path


def is_kept(path: str) -> bool:
    """Say whether a path is a file that Gradio keeps for this studio's pages to show."""
    folder = os.environ.get(_CACHE)
    if not folder or "\0" in path or not Path(path).is_absolute():
        return False
    try:
        real = Path(path).resolve(strict=True)
        return real.is_file() and real.is_relative_to(Path(folder).resolve(strict=True))
    except (OSError, RuntimeError):
        return False


@contextmanager
def page_files() -> Iterator[Path]:
    """Give Gradio a folder for the files of its pages: this user's, emptied at the end.

    Its own default is one that all Gradio apps of a machine share.
    """
    before = os.environ.get(_CACHE)
    with tempfile.TemporaryDirectory(prefix="inpo-studio-", ignore_cleanup_errors=True) as folder:
        os.environ[_CACHE] = str(Path(folder).resolve())
        try:
            yield Path(folder)
        finally:
            if before is None:
                os.environ.pop(_CACHE, None)
            else:
                os.environ[_CACHE] = before
