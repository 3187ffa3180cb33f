"""Every storage test runs on SQLite and on PostgreSQL, each on a database of its own.

The PostgreSQL server is the one of INPO_STUDIO_TEST_POSTGRES, else one started for the run;
where neither can be had, its tests are skipped, and fail if CI=true.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def new_database(server: str, *, template: str = "template1") -> Iterator[str]:
    """A database on the server, dropped at the end; gives its URL."""
    name = f"test_{uuid4().hex}"
    execute_on_server(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
    execute_on_server(server, f"DROP DATABASE {name} WITH (FORCE)")


def migrate_at(url: str) -> None:
    opened = open_database(url)
    migrate(opened)
    opened.dispose()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the newest schema, to be copied while nothing has it open."""
    path = tmp_path_factory.mktemp("migrated") / "studio.db"
    migrate_at(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_template(postgres_server: str) -> Iterator[str]:
    """The name of a PostgreSQL database with the newest schema, to make others from."""
    with new_database(postgres_server) as url:
        migrate_at(url)
        name = make_url(url).database
        assert name is not None
        yield name


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which database a test runs on."""
    return str(request.param)


@pytest.fixture
def database_url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database."""
    if kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'studio.db'}"
    else:
        with new_database(request.getfixturevalue("postgres_server")) as url:
            yield url


@pytest.fixture
def database(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database with the newest schema."""
    if kind == "sqlite":
        yield from opened_copy(request.getfixturevalue("migrated_file"), tmp_path)
        return
    template: str = request.getfixturevalue("migrated_template")
    with new_database(request.getfixturevalue("postgres_server"), template=template) as url:
        opened = open_database(url)
        yield opened
        opened.dispose()


@pytest.fixture
def sqlite_database(migrated_file: Path, tmp_path: Path) -> Iterator[Database]:
    """For what SQLite alone has."""
    yield from opened_copy(migrated_file, tmp_path)


def opened_copy(migrated: Path, folder: Path) -> Iterator[Database]:
    path = folder / "studio.db"
    shutil.copyfile(migrated, path)
    opened = open_database(f"sqlite:///{path}")
    yield opened
    opened.dispose()
