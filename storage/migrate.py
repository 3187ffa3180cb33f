"""Bring a database up to this version's schema, all or nothing.

SQLite: one transaction with foreign keys switched off before it begins (rebuilding a table
with them on deletes or refuses child rows) and checked at its end, after a backup was made.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from storage.engines import Database, translated_errors
from storage.errors import NewerSchema, StorageError
from storage.files import sync_folder

SCRIPTS = Path(__file__).parent / "migrations"


def migrate(database: Database) -> Path | None:
    """Migrate to the newest schema; returns the backup made of an existing SQLite file.

    Does nothing if the schema is up to date. Several processes may call it at once. Raises
    NewerSchema for a database of a newer version, StorageError for one of another program;
    both leave it as it is.
    """
    with translated_errors(), _writing(database) as connection:
        current = _checked_revision(connection)
        if current == head_revision():
            return None
        backup = _back_up(database.path, current) if database.path and current else None
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if database.path:
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
            if broken:
                raise StorageError(
                    f"The new schema would lose references of {broken[0][0]}; nothing was changed."
                )
        return backup


def head_revision() -> str:
    """The schema this version of the program uses."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def current_revision(database: Database) -> str | None:
    """The schema a database has; None if it has none of ours."""
    with translated_errors(), database.reader.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config


def _checked_revision(connection: Connection) -> str | None:
    current = MigrationContext.configure(connection).get_current_revision()
    scripts = ScriptDirectory.from_config(_config())
    known = {script.revision for script in scripts.walk_revisions()}
    if current is not None and current not in known:
        raise NewerSchema(
            f"This workspace was written by a newer version (schema {current}; this version "
            f"knows {head_revision()}); update the program or use another workspace."
        )
    tables = inspect(connection).get_table_names()
    if current is None and tables:
        raise StorageError(
            f"The database already holds tables of another program ({tables[0]}); use an empty one."
        )
    return current


@contextmanager
def _writing(database: Database) -> Iterator[Connection]:
    """The only writer's connection, in a transaction that is committed at the end."""
    with database.writer.connect() as connection:
        if database.path:
            # has no effect inside a transaction, so it goes round SQLAlchemy's
            _foreign_keys(connection, "OFF")
        try:
            with connection.begin():
                yield connection
        finally:
            if database.path:
                _foreign_keys(connection, "ON")


def _foreign_keys(connection: Connection, value: str) -> None:
    cursor = connection.connection.cursor()
    cursor.execute(f"PRAGMA foreign_keys={value}")
    cursor.close()


def _back_up(path: Path, revision: str) -> Path:
    """A copy by SQLite's backup API; the caller holds the write lock, so it is the last state."""
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    backup = path.with_name(f"{path.stem}-schema-{revision}-{time}{path.suffix}.backup")
    temporary = backup.with_suffix(".unfinished")
    source = sqlite3.connect(path)
    target = sqlite3.connect(temporary)
    try:
        source.backup(target)
    finally:
        target.close()
        source.close()
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    temporary.replace(backup)
    sync_folder(backup.parent)
    return backup
