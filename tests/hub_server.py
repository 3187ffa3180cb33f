"""A server on this machine that answers like the Hub, for its real client.

Repositories are folders. It knows private and gated ones, tokens, byte ranges, a limit of speed,
and what was asked of it.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "t" * 34
_CHUNK = 16 * 1024


@dataclass
class Repository:
    """What the server has under one name."""

    folder: Path
    private: bool = False
    gated: bool = False
    extra: dict[str, int] = field(default_factory=dict)
    """Files that are only listed, with their sizes."""

    @property
    def files(self) -> dict[str, Path]:
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path for path in found}

    @property
    def commit(self) -> str:
        names = "\n".join(f"{name} {path.stat().st_size}" for name, path in self.files.items())
        return hashlib.sha1(names.encode()).hexdigest()


@dataclass
class Hub:
    """The running server."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    bytes_per_s: float | None = None
    """Speed of large files; None does not hold them back."""
    breaks_after: int | None = None
    """Bytes of an answer after which the connection breaks, once."""
    asked: list[str] = field(default_factory=list)
    """Method and path of every request."""
    sent: dict[str, int] = field(default_factory=dict)
    """Bytes of contents sent, by file name."""
    url: str = ""

    def add(self, name: str, folder: Path, **facts: Any) -> Repository:
        self.repositories[name] = Repository(folder, **facts)
        return self.repositories[name]

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """Variables under which the Hub's client asks this server."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "",
            "HF_TOKEN": "",
            "HF_HUB_DISABLE_XET": "1",
            **more,
        }


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: Any) -> None:
        return

    def _answer(self, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        api = path.startswith("/api/models/")
        parts = (path.removeprefix("/api/models/") if api else path.lstrip("/")).split("/")
        repository = self.hub.repositories.get("/".join(parts[:2]))
        allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None or (repository.private and not allowed):
            return self._refuse(401, "RepoNotFound", "Invalid username or password.")
        if api and parts[2:3] == ["tree"]:
            return self._tree(repository)
        if api:
            return self._info("/".join(parts[:2]), repository)
        if parts[2:3] != ["resolve"]:
            return self._refuse(404, "EntryNotFound", "Nothing here.")
        if repository.gated and not allowed:
            return self._refuse(401, "GatedRepo", "Access to this model is restricted.")
        name = "/".join(parts[4:])
        found = repository.files.get(name)
        if found is None:
            return self._refuse(404, "EntryNotFound", "Entry not found")
        return self._file(repository, name, found, with_body)

    def _refuse(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"error": message}).encode()
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _info(self, name: str, repository: Repository) -> None:
        sizes = {n: path.stat().st_size for n, path in repository.files.items()}
        body = json.dumps(
            {
                "id": name,
                "modelId": name,
                "sha": repository.commit,
                "private": repository.private,
                "gated": "manual" if repository.gated else False,
                "tags": [],
                "downloads": 0,
                "siblings": [
                    {"rfilename": n, "size": size}
                    for n, size in {**sizes, **repository.extra}.items()
                ],
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _tree(self, repository: Repository) -> None:
        body = json.dumps(
            [
                {
                    "type": "file",
                    "path": name,
                    "size": path.stat().st_size,
                    "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
                }
                for name, path in repository.files.items()
            ]
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _file(self, repository: Repository, name: str, path: Path, with_body: bool) -> None:
        content = path.read_bytes()
        start = 0
        asked = self.headers.get("Range", "")
        if asked.startswith("bytes="):
            start = int(asked.removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", repository.commit)
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if with_body:
            self._send(name, content[start:])

    def _send(self, name: str, content: bytes) -> None:
        hub = self.hub
        stop = hub.breaks_after if len(content) > _CHUNK else None
        for place in range(0, len(content), _CHUNK):
            chunk = content[place : place + _CHUNK]
            if stop is not None and place >= stop:
                hub.breaks_after = None
                self.close_connection = True
                self.connection.close()
                return
            try:
                self.wfile.write(chunk)
            except OSError:  # the client has gone
                self.close_connection = True
                return
            hub.sent[name] = hub.sent.get(name, 0) + len(chunk)
            if hub.bytes_per_s and len(content) > _CHUNK:
                time.sleep(len(chunk) / hub.bytes_per_s)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Run the server while the block runs."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
