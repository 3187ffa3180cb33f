"""A PostgreSQL server for the length of a test run, in a folder of its own."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError

URL_VARIABLE = "INPO_STUDIO_TEST_POSTGRES"
"""A server to use instead, by a URL whose user may create databases."""


def find_programs() -> Path | None:
    """The folder with initdb and postgres, of the newest version installed."""
    folders = []
    if config := shutil.which("pg_config"):
        answer = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        folders.append(Path(answer.stdout.strip()))
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    folders += sorted(versions, key=lambda path: int(path.parent.name), reverse=True)
    return next((path for path in folders if (path / "initdb").exists()), None)


@contextmanager
def running_server(programs: Path) -> Iterator[str]:
    """Start a throw-away server on a free loopback port; gives the URL of its database."""
    identity = _unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="studio-postgres-"))
    password = secrets.token_hex(16)
    password_file = folder / "password"
    password_file.write_text(password)
    if "user" in identity:
        for path in (folder, password_file):
            shutil.chown(path, identity["user"], identity["group"])
    data, port = folder / "data", _free_port()
    try:
        subprocess.run(
            [
                *(
                    programs / "initdb",
                    "-D",
                    data,
                    "-U",
                    "studio",
                    "--no-sync",
                    "--no-instructions",
                ),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
                f"--pwfile={password_file}",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            **identity,
        )
        # the folder is thrown away, so nothing of it needs to outlive the machine
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": ""}
        settings |= {"fsync": "off", "shared_buffers": "32MB", "max_connections": 60}
        options = [f"--{name}={value}" for name, value in settings.items()]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                **identity,
            )
        url = f"postgresql://studio:{password}@127.0.0.1:{port}/postgres"
        try:
            _wait_until_ready(url, server, folder / "log")
            yield url
        finally:
            server.send_signal(signal.SIGQUIT)  # PostgreSQL's immediate shutdown
            server.wait(timeout=30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged() -> dict[str, Any]:
    """Whom to run as: initdb refuses root."""
    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and server.poll() is None:
        try:
            execute_on_server(url, "SELECT 1")
            return
        except OperationalError:
            time.sleep(0.05)
    raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text(errors='replace')[-2000:]}")


def execute_on_server(url: str, statement: str) -> None:
    """Run one statement outside any transaction, as CREATE DATABASE needs."""
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    try:
        with engine.connect() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()
