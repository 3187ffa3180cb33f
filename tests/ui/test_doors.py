"""Host and Origin: what a foreign name or a foreign page gets."""

from __future__ import annotations

import pytest

from inpo_studio.ui.doors import refuse


@pytest.mark.parametrize(
    ("method", "host", "origin", "let_in"),
    [
        ("GET", "127.0.0.1:7860", None, True),
        ("GET", "localhost:7860", None, True),
        ("GET", "[::1]:7860", None, True),
        ("GET", "LOCALHOST", None, True),
        ("POST", "127.0.0.1:7860", "http://127.0.0.1:7860", True),
        ("POST", "127.0.0.1:7860", None, True),
        ("GET", "127.0.0.1:7860", "http://evil.example", True),
        ("GET", "evil.example", None, False),
        ("GET", "evil.example:7860", None, False),
        ("GET", "127.0.0.1.evil.example", None, False),
        ("GET", "", None, False),
        ("GET", "[broken", None, False),
        ("GET", "evil.example@127.0.0.1:99999", None, False),
        ("POST", "127.0.0.1:7860", "http://evil.example", False),
        ("POST", "127.0.0.1:7860", "http://127.0.0.1:8000", False),
        ("POST", "127.0.0.1:7860", "null", False),
        ("DELETE", "127.0.0.1:7860", "http://evil.example", False),
        ("WEBSOCKET", "127.0.0.1:7860", "http://evil.example", False),
    ],
)
def test_who_is_let_in(method: str, host: str, origin: str | None, let_in: bool) -> None:
    headers = {"host": host} if origin is None else {"host": host, "origin": origin}
    assert (refuse(method, headers) == "") is let_in
