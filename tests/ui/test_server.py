"""The web process: it answers, refuses strangers, says where it is, and leaves nothing behind."""

from __future__ import annotations

import json
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.running import Terminal


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Any, dict[str, Any], Terminal]]:
    terminal = Terminal(tmp_path)
    child = terminal.start("serve", "--no-browser", "--port", "0", "--json")
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        assert line, child.stderr.read() if child.stderr else ""
        yield child, json.loads(line), terminal
    finally:
        child.kill()
        child.communicate()


def get(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as a:
            return a.status, a.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode("utf-8", "replace")


def left_of(family: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run after five seconds; what waits to be reaped has ended."""
    _, alive = psutil.wait_procs(family, timeout=5)
    return [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_it_answers_and_closing_stops_everything(served: Any) -> None:
    child, told, terminal = served
    assert told["workspace"] == str(terminal.workspace)
    status, page = get(told["url"])
    assert status == 200
    assert "InPO Studio" in page
    config = json.loads(get(told["url"] + "config")[1])
    assert config["analytics_enabled"] is False
    assert get(told["url"], Host="evil.example")[0] == 403
    for path in ("monitoring", "monitoring/summary", "docs"):
        assert get(told["url"] + path)[0] in (403, 404), path
    deadline = time.monotonic() + 30
    while not (family := psutil.Process(child.pid).children(recursive=True)):
        assert time.monotonic() < deadline, "no worker was started"
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    assert not left_of(family)


def test_killing_the_studio_leaves_no_orphan(served: Any) -> None:
    child, _, _ = served
    deadline = time.monotonic() + 30
    while not (family := psutil.Process(child.pid).children(recursive=True)):
        assert time.monotonic() < deadline, "no worker was started"
        time.sleep(0.1)
    time.sleep(1)
    child.kill()
    child.communicate()
    assert not left_of(family)


def test_a_taken_port_is_said_so(terminal: Terminal) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = terminal("serve", "--no-browser", "--port", str(taken.getsockname()[1]), "--json")
    assert ended.code == 2
    assert "--port" in ended.json["error"]
    assert not (terminal.workspace / "studio.db").exists()


def test_without_a_worker_it_starts_none(tmp_path: Path) -> None:
    child = Terminal(tmp_path).start(
        "serve", "--no-browser", "--port", "0", "--json", "--no-worker"
    )
    try:
        assert child.stdout is not None
        said = json.loads(child.stdout.readline())
        assert get(said["url"])[0] == 200
        assert psutil.Process(said["pid"]).children(recursive=True) == []
    finally:
        child.kill()
        child.communicate()
