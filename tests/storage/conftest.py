"""Every storage test runs on SQLite and on PostgreSQL, each on a database of its own.

The PostgreSQL server is the one of INPO_STUDIO_TEST_POSTGRES, else one started for the run;
where neither can be had, its tests are skipped, and fail if CI=true.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import make_url

from storage.engines import Database, open_database
from storage.migrate import migrate
from tests.storage.postgres import URL_VARIABLE, execute_on_server, find_programs, running_server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a server whose user may create databases."""
    if url := os.environ.get(URL_VARIABLE):
        yield url
        return
    programs = find_programs()
    if programs is None:
        reason = f"no PostgreSQL: install it (initdb is not found) or set {URL_VARIABLE}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with running_server(programs) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'studio.db'}"
        return
    server: str = request.getfixturevalue("postgres_server")
    name = f"test_{uuid4().hex}"
    execute_on_server(server, f"CREATE DATABASE {name}")
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
    execute_on_server(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with the newest schema."""
    opened = open_database(database_url)
    migrate(opened)
    yield opened
    opened.dispose()


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[Database]:
    """For what SQLite alone has."""
    opened = open_database(f"sqlite:///{tmp_path / 'studio.db'}")
    migrate(opened)
    yield opened
    opened.dispose()
