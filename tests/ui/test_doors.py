"""What a foreign name or page gets, which of Gradio's routes are open, and the headers."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from inpo_studio.settings import Settings
from inpo_studio.studio import open_studio
from inpo_studio.ui.doors import LARGEST_REQUEST, refuse
from inpo_studio.ui.gradio_routes import is_kept, is_open, page_files
from inpo_studio.ui.headers import page_policy
from tests.browser.serving import ROOT, Server

HOST = "127.0.0.1:7860"
OWN = "http://127.0.0.1:7860"


@pytest.mark.parametrize(
    ("method", "host", "origin", "let_in"),
    [
        ("GET", "127.0.0.1:7860", None, True),
        ("GET", "localhost:7860", None, True),
        ("GET", "[::1]:7860", None, True),
        ("GET", "LOCALHOST", None, True),
        ("POST", "127.0.0.1:7860", "http://127.0.0.1:7860", True),
        ("POST", "127.0.0.1:7860", None, True),
        ("GET", "evil.example", None, False),
        ("GET", "evil.example:7860", None, False),
        ("GET", "127.0.0.1.evil.example", None, False),
        ("GET", "", None, False),
        ("GET", "[broken", None, False),
        ("GET", "evil.example@127.0.0.1:99999", None, False),
        ("GET", "127.0.0.1:7860", "http://evil.example", False),
        ("GET", "127.0.0.1:7860", "http://127.0.0.1:8000", False),
        ("POST", "127.0.0.1:7860", "http://evil.example", False),
        ("POST", "127.0.0.1:7860", "http://127.0.0.1:8000", False),
        ("POST", "127.0.0.1:7860", "null", False),
        ("DELETE", "127.0.0.1:7860", "http://evil.example", False),
        ("OPTIONS", "127.0.0.1:7860", "http://evil.example", False),
    ],
)
def test_who_is_let_in(method: str, host: str, origin: str | None, let_in: bool) -> None:
    headers = [(b"Host", host.encode())]
    if origin is not None:
        headers.append((b"Origin", origin.encode()))
    assert (refuse(method, "/", headers) == "") is let_in


def test_two_hosts_or_two_origins_are_no_way_in() -> None:
    host = (b"host", HOST.encode())
    assert refuse("GET", "/", [host, (b"host", b"evil.example")])
    assert refuse("GET", "/", [(b"host", b"evil.example"), host])
    assert refuse(
        "GET", "/", [host, (b"origin", OWN.encode()), (b"origin", b"http://evil.example")]
    )
    assert refuse("GET", "/", [])


@pytest.mark.parametrize(
    ("path", "site", "destination", "let_in"),
    [
        ("/pictures/abc", "same-origin", "image", True),
        ("/pictures/abc", "none", "document", True),
        ("/pictures/abc", "cross-site", "image", False),
        ("/pictures/abc", "same-site", "image", False),  # another port of this machine
        ("/config", "cross-site", "script", False),
        ("/", "cross-site", "document", True),  # a link or a bookmark
        ("/", "cross-site", "iframe", False),
        ("/", "cross-site", "empty", False),
        ("/gradio_api/startup-events", "cross-site", "document", False),
    ],
)
def test_other_pages_may_link_here_and_nothing_else(
    path: str, site: str, destination: str, let_in: bool
) -> None:
    headers = [
        (b"host", HOST.encode()),
        (b"sec-fetch-site", site.encode()),
        (b"sec-fetch-dest", destination.encode()),
    ]
    assert (refuse("GET", path, headers) == "") is let_in
    assert refuse("POST", "/", headers) == "" or site not in ("same-origin", "none")


OPEN = [
    ("GET", "/"),
    ("GET", "/config"),
    ("GET", "/theme.css"),
    ("GET", "/manifest.json"),
    ("GET", "/favicon.ico"),
    ("GET", "/static/img/logo.svg"),
    ("GET", "/gradio_api/app_id"),
]
CLOSED = [
    ("GET", "/gradio_api/proxy=https://example.com/"),
    ("GET", "/gradio_api/proxy=http://127.0.0.1:1/"),
    ("GET", "/gradio_api/file=http://127.0.0.1:1/x.png"),
    ("GET", "/gradio_api/file=https://example.com/x.png"),
    ("GET", "/gradio_api/file=file:///etc/passwd"),
    ("GET", "/gradio_api/file=/etc/passwd"),
    ("GET", "/gradio_api/file=../../etc/passwd"),
    ("GET", "/gradio_api/file=%2e%2e%2f%2e%2e%2fetc%2fpasswd"),
    ("GET", "/gradio_api/file=pyproject.toml"),
    ("GET", "/gradio_api/file=C:%5CWindows%5Cwin.ini"),
    ("GET", "/gradio_api/file/etc/passwd"),
    ("GET", "/gradio_api/info"),
    ("GET", "/gradio_api/info?all_endpoints=true"),
    ("GET", "/gradio_api/openapi.json"),
    ("GET", "/gradio_api/runs"),
    ("GET", "/gradio_api/deep_link?session_hash=x"),
    ("GET", "/?deep_link=x"),
    ("GET", "/config?deep%5Flink=x"),
    ("GET", "/gradio_api/queue/status"),
    ("GET", "/gradio_api/upload_progress?upload_id=x"),
    ("GET", "/gradio_api/custom_component/a/client/b/c"),
    ("GET", "/gradio_api/dev/reload"),
    ("GET", "/gradio_api/vibe-code"),
    ("GET", "/gradio_api/token"),
    ("GET", "/gradio_api/user"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/redoc"),
    ("GET", "/monitoring"),
    ("GET", "/monitoring/summary"),
    ("GET", "/logout"),
    ("GET", "/pwa_icon"),
    ("GET", "/assets/../../../routes.py"),
    ("GET", "/static/%2e%2e/%2e%2e/x"),
    ("POST", "/login"),
    ("POST", "/gradio_api/upload"),
    ("POST", "/gradio_api/call/predict"),
    ("POST", "/gradio_api/api/predict"),
    ("POST", "/gradio_api/vibe-edit"),
    ("POST", "/gradio_api/process_recording"),
    ("POST", "/gradio_api/run-history/connect"),
    ("POST", "/gradio_api/stream/x"),
    ("PUT", "/config"),
    ("DELETE", "/gradio_api/component_server"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    workspace = tmp_path_factory.mktemp("doors") / "workspace"
    open_studio(Settings(workspace=workspace)).close()
    started = Server(workspace)
    started.start()
    yield started
    started.kill()


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as opened:
        yield opened


def ask(server: Server, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """Send a path as it is written, without a client's tidying it up."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request(method, path, body or None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(("method", "path"), OPEN)
def test_what_pages_use_is_open(server: Server, method: str, path: str) -> None:
    assert ask(server, method, path)[0] == 200


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_what_no_page_uses_is_closed(server: Server, method: str, path: str) -> None:
    status, text = ask(server, method, path, b"{}" if method == "POST" else b"")
    assert status in (403, 404, 405), text
    assert b"root:" not in text


def test_only_files_that_gradio_keeps_for_pages_are_served(tmp_path: Path) -> None:
    (tmp_path / "other.png").write_bytes(b"x")
    with page_files() as folder:
        kept = folder / "abc" / "picture.png"
        kept.parent.mkdir()
        kept.write_bytes(b"x")
        (folder / "link.png").symlink_to(tmp_path / "other.png")
        assert is_kept(str(kept))
        assert is_open("GET", f"/gradio_api/file={kept}")
        assert not is_open("POST", f"/gradio_api/file={kept}")
        for wrong in (
            str(folder / "link.png"),
            str(folder),
            str(folder / "abc" / ".." / ".." / ".." / "etc" / "passwd"),
            str(folder / "missing.png"),
            str(tmp_path / "other.png"),
            f"{kept}\0",
            "abc/picture.png",
            "",
        ):
            assert not is_kept(wrong), wrong
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()
    assert not is_kept(str(kept))


_SLIDER = """
import gradio as gr
from inpo_studio.ui.gradio_routes import is_open, page_files
from tests.browser.serving import draw

with page_files():
    with gr.Blocks(analytics_enabled=False) as page:
        gr.ImageSlider(value=(draw(1), draw(2)))
    parts = page.get_config_file()["components"]
    (slider,) = (one for one in parts if one["type"] == "imageslider")
    paths = [picture["path"] for picture in slider["props"]["value"]]
    print(len(paths), all(is_open("GET", f"/gradio_api/file={path}") for path in paths))
"""


def test_pictures_that_gradio_shows_are_open() -> None:
    """Its components keep what they show in its folder. (It leaves an event loop open.)"""
    child = subprocess.run(
        [sys.executable, "-c", _SLIDER], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert child.stdout.split() == ["2", "True"], child.stderr


def test_too_much_at_once_is_refused(server: Server) -> None:
    path = "/gradio_api/component_server/"
    assert ask(server, "POST", path, b" " * (LARGEST_REQUEST + 1))[0] == 413

    def pieces() -> Iterator[bytes]:
        for _ in range(LARGEST_REQUEST // 2**16 + 2):
            yield b" " * 2**16

    with (
        httpx.Client(base_url=server.url, timeout=30) as client,
        contextlib.suppress(httpx.TransportError),  # it may be cut off in the middle
    ):
        assert client.post(path, content=pieces()).status_code >= 400
    assert ask(server, "GET", "/")[0] == 200


def test_what_a_proxy_would_say_is_not_believed(client: httpx.Client) -> None:
    headers = {
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "X-Gradio-Server": "http://evil.example",
    }
    for path in ("/", "/config"):
        assert "evil.example" not in client.get(path, headers=headers).text
    config = client.get("/config", headers=headers).json()
    assert config["root"] == str(client.base_url).rstrip("/")


def test_pages_may_load_from_here_only(client: httpx.Client) -> None:
    page = client.get("/")
    rules = {
        rule.split()[0]: set(rule.split()[1:])
        for rule in page.headers["content-security-policy"].split("; ")
    }
    assert rules["default-src"] == rules["connect-src"] == {"'self'"}
    assert rules["img-src"] == {"'self'", "data:", "blob:"}
    for name in ("frame-ancestors", "object-src", "form-action", "frame-src"):
        assert rules[name] == {"'none'"}, name
    assert "'unsafe-inline'" not in rules["script-src"]
    assert not any("*" in one or "http" in one for rule in rules.values() for one in rule)
    for script in re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL):
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in rules["script-src"]


def test_every_answer_says_how_it_may_be_used(server: Server, client: httpx.Client) -> None:
    for path in ("/", "/config", "/theme.css", "/pictures/none", "/docs", "/static/img/logo.svg"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["cross-origin-resource-policy"] == "same-origin", path
        assert headers["referrer-policy"] == "same-origin", path
        assert headers["x-frame-options"] == "DENY", path
        assert "frame-ancestors 'none'" in headers["content-security-policy"], path
        assert "access-control-allow-origin" not in headers, path
        assert "server" not in headers, path
        if path != "/":
            assert "sandbox" in headers["content-security-policy"], path
    refused = client.get("/", headers={"Host": "evil.example"})
    assert refused.status_code == 403
    assert refused.headers["x-content-type-options"] == "nosniff"


def test_scripts_are_told_from_files_and_data() -> None:
    page = (
        b"<script>one()</script><SCRIPT type='module' src='x.js'></SCRIPT><script > two </script>"
    )
    policy = page_policy(page)
    assert policy.count("'sha256-") == 2
    assert "'none'" in page_policy(b"")
