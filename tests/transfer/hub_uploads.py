"""A server on this machine that takes uploads as the Hub does, for its real client."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "CanaryCanaryCanaryCanaryCanary0042"


@dataclass
class Uploads:
    """The running server, and what it was given."""

    url: str = ""
    owners: tuple[str, ...] = ("ada",)
    """Whose repositories the token may write to."""
    repositories: dict[str, bool] = field(default_factory=dict)
    """Whether each is private, by name."""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    """Contents of large files by SHA-256."""
    asked: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    hub: Uploads
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.large[hashlib.sha256(content).hexdigest()] = content
        self._say(200, {})

    def log_message(self, *_: Any) -> None:
        return

    def _answer(self, body: bytes) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        if path == "/api/agent-harnesses":
            return self._say(200, {})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._say(401, {"error": "Invalid credentials in Authorization header"})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._say(200, {"errors": [], "warnings": []})
        if path.endswith("/info/lfs/objects/batch"):
            return self._batch(json.loads(body))
        name, _, rest = path.removeprefix("/api/models/").partition("/preupload/")
        if rest:
            return self._modes(json.loads(body))
        name, _, rest = name.partition("/commit/")
        if rest:
            return self._commit(name, body)
        private = self.hub.repositories.get(name)
        if private is None:
            return self._say(404, {"error": "Repository not found"}, "RepoNotFound")
        return self._say(200, {"id": name, "private": private, "siblings": [], "sha": "0" * 40})

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] not in self.hub.owners:
            return self._say(403, {"error": "You don't have the rights to create a model here"})
        told = {"url": f"{self.hub.url}/{name}", "name": name}
        if name in self.hub.repositories:
            return self._say(409, {**told, "error": "You already created this model repo"})
        self.hub.repositories[name] = asked.get("visibility") == "private"
        return self._say(200, told)

    def _modes(self, asked: dict[str, Any]) -> None:
        files = [
            {
                "path": one["path"],
                "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for one in asked["files"]
        ]
        self._say(200, {"files": files})

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.hub.url}/large/{one['oid']}"}}}
            for one in asked["objects"]
        ]
        self._say(200, {"transfer": "basic", "objects": objects})

    def _commit(self, name: str, body: bytes) -> None:
        found = self.hub.files.setdefault(name, {})
        for line in body.splitlines():
            said = json.loads(line)
            value = said["value"]
            if said["key"] == "file":
                found[value["path"]] = base64.b64decode(value["content"])
            elif said["key"] == "lfsFile":
                found[value["path"]] = self.hub.large[value["oid"]]
        told = {"commitUrl": f"{self.hub.url}/{name}/commit/{'1' * 40}", "commitOid": "1" * 40}
        self._say(200, told)

    def _say(self, status: int, told: dict[str, Any], code: str = "") -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if "error" in told:
            self.send_header("X-Error-Message", told["error"])
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def taking_uploads() -> Iterator[Uploads]:
    """Run the server while the block runs."""
    hub = Uploads()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
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
