"""Databases: how connections are opened, and the two kinds of transaction.

On both databases one writer is let in at a time (SQLite: BEGIN IMMEDIATE; PostgreSQL: an
advisory lock), so a value that is read and written back within one `write()` is never lost.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from storage.errors import DatabaseBusy, StorageError
from storage.failures import as_storage_error

JournalMode = Literal["auto", "wal", "delete"]

BUSY_TIMEOUT_MILLISECONDS = 10_000
POSTGRESQL_WRITER_LOCK = 0x1A90_57D0
"""Key of the advisory lock that writers hold; advisory locks are per database."""


class Database:
    """Two engines on one database: `read()` cannot write, `write()` commits at its end.

    Keep both short and never hold one across image or model work: in SQLite's DELETE journal
    a reader keeps writers from committing. `write()` is not re-entrant within a thread.
    """

    def __init__(self, url: str, writer: Engine, reader: Engine, journal_mode: str | None) -> None:
        self.url = url
        """As it was given, with its password: for child processes, never for logs."""
        self.writer = writer
        self.reader = reader
        self.journal_mode = journal_mode
        """What SQLite uses, "wal" or "delete"; None on PostgreSQL."""

    def __repr__(self) -> str:
        return f"Database({self.writer.url.render_as_string()!r})"

    @property
    def path(self) -> Path | None:
        """The file of a SQLite database; None on PostgreSQL."""
        name = self.writer.url.database
        return Path(name) if self.journal_mode is not None and name else None

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one moment of the database and cannot change it."""
        with translated_errors(), Session(self.reader, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session in one transaction: committed, durably, at the end; rolled back on errors."""
        with translated_errors(), Session(self.writer, expire_on_commit=False) as session:
            session.connection()  # takes the write lock before anything is read
            yield session
            session.commit()

    def dispose(self) -> None:
        """Close all connections."""
        self.writer.dispose()
        self.reader.dispose()


def open_database(url: str, *, journal_mode: JournalMode = "auto") -> Database:
    """Open `sqlite:///FILE` or `postgresql://…`; the schema is `storage.migrate`'s.

    `journal_mode` concerns SQLite: "auto" is WAL where its reset bug is fixed, else DELETE;
    forcing one is for measurements. Raises StorageError for any other URL and for a database
    that cannot be opened.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StorageError(_bad_url(url)) from error
    with translated_errors():
        if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
            return _open_sqlite(url, parsed, journal_mode)
        if parsed.get_backend_name() == "postgresql":
            return _open_postgresql(url, parsed)
    raise StorageError(_bad_url(url))


def _bad_url(url: str) -> str:
    return (
        f"The database URL starts with {url.split(':', 1)[0]!r}; "
        "use sqlite:///FILE or postgresql://USER@HOST/NAME."
    )


def wal_is_safe(version: tuple[int, int, int]) -> bool:
    """Whether this SQLite has the fix of the WAL-reset bug (3.51.3, 3.50.7, 3.44.6)."""
    if version >= (3, 51, 3):
        return True
    return any(version[:2] == fixed[:2] and version >= fixed for fixed in ((3, 50, 7), (3, 44, 6)))


def _open_sqlite(url: str, parsed: URL, journal_mode: JournalMode) -> Database:
    if not parsed.database or parsed.database == ":memory:" or parsed.query:
        raise StorageError("A SQLite database must be a plain file; use sqlite:///FILE.")
    if not Path(parsed.database).absolute().parent.is_dir():
        raise StorageError(f"The folder of {parsed.database} does not exist; make it first.")
    if journal_mode == "auto":
        journal_mode = "wal" if wal_is_safe(sqlite3.sqlite_version_info) else "delete"
    seconds = BUSY_TIMEOUT_MILLISECONDS / 1000
    writer = create_engine(parsed, connect_args={"timeout": seconds})
    reader = create_engine(parsed, connect_args={"timeout": seconds})
    _set_up_sqlite(writer, "BEGIN IMMEDIATE", query_only=False)
    _set_up_sqlite(reader, "BEGIN", query_only=True)
    return Database(url, writer, reader, _set_journal_mode(writer, journal_mode))


def _set_up_sqlite(engine: Engine, begin: str, *, query_only: bool) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: DBAPIConnection, record: Any) -> None:
        # the driver must not begin transactions by itself: it would not for SELECT
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MILLISECONDS}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA mmap_size=0")
        if query_only:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def _set_journal_mode(writer: Engine, wanted: str) -> str:
    with writer.connect() as pooled:
        connection = pooled.connection.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        current: str = connection.execute("PRAGMA journal_mode").fetchone()[0]
        if current == wanted:
            return current
        try:
            # the answer is the mode in force, which is the old one where files cannot do WAL
            answer: str = connection.execute(f"PRAGMA journal_mode={wanted}").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise as_storage_error(error) or error from error
            return current  # another process is at work: its mode stays in force for all
        return answer


def _open_postgresql(url: str, parsed: URL) -> Database:
    parsed = parsed.set(drivername="postgresql+psycopg")
    # the bound on waiting for a lock, and an answer to COMMIT only once it is on disk
    options = f"-c lock_timeout={BUSY_TIMEOUT_MILLISECONDS} -c synchronous_commit=on"
    arguments = {"options": options, "connect_timeout": 10, "application_name": "inpo-studio"}
    try:
        writer = create_engine(parsed, connect_args=arguments, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise StorageError(
            "PostgreSQL needs the package psycopg; install inpo-studio[postgresql]."
        ) from error
    reader = create_engine(parsed, connect_args=arguments, pool_pre_ping=True).execution_options(
        isolation_level="REPEATABLE READ", postgresql_readonly=True
    )

    @event.listens_for(writer, "begin")
    def on_begin(connection: Connection) -> None:
        connection.execute(text(f"SELECT pg_advisory_xact_lock({POSTGRESQL_WRITER_LOCK})"))

    with reader.connect() as connection:
        connection.execute(text("SELECT 1"))
    return Database(url, writer, reader, None)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn what the driver reports into one sentence; errors in the SQL itself stay as they are."""
    try:
        yield
    except PoolTimeout as error:
        raise DatabaseBusy("Too many requests at once; try again in a moment.") from error
    except (IntegrityError, ProgrammingError):
        raise
    except DBAPIError as error:
        translated = as_storage_error(error.orig)
        if translated is None:
            raise
        raise translated from error
