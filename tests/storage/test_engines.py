from __future__ import annotations

import sqlite3
import threading
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from storage import engines
from storage.engines import Database, open_database, wal_is_safe
from storage.errors import DatabaseAway, DatabaseBusy, DiskFull, StorageError
from storage.failures import as_storage_error
from storage.progress import get_progress, set_progress
from storage.prompts import add_prompts, list_prompts


def test_every_pooled_connection_has_the_settings(sqlite_database: Database) -> None:
    settings = {"foreign_keys": 1, "synchronous": 2, "busy_timeout": 10_000, "mmap_size": 0}
    for engine, query_only in ((sqlite_database.writer, 0), (sqlite_database.reader, 1)):
        with ExitStack() as stack:
            connections = [stack.enter_context(engine.connect()) for _ in range(8)]
            for connection in connections:
                cursor = connection.connection.cursor()
                for name, value in {**settings, "query_only": query_only}.items():
                    row = cursor.execute(f"PRAGMA {name}").fetchone()
                    assert (row or (0,))[0] == value, name
                cursor.close()


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 52, 0), True),
        ((4, 0, 0), True),
    ],
)
def test_wal_only_where_its_reset_bug_is_fixed(version: tuple[int, int, int], safe: bool) -> None:
    assert wal_is_safe(version) is safe


def test_journal_mode_follows_the_version_and_can_be_forced(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    safe = wal_is_safe(sqlite3.sqlite_version_info)
    for asked, expected in (
        ("wal", "wal"),
        ("delete", "delete"),
        ("auto", "wal" if safe else "delete"),
    ):
        database = open_database(url, journal_mode=asked)  # type: ignore[arg-type]
        assert database.journal_mode == expected
        with database.reader.connect() as connection:
            in_force = connection.execute(text("PRAGMA journal_mode")).scalar()
        assert in_force == expected
        database.dispose()


def test_a_mode_that_another_process_holds_stays(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    first = open_database(url, journal_mode="wal")
    with first.write() as session:
        session.execute(text("CREATE TABLE t (a INTEGER)"))
    with first.read() as session:
        session.execute(text("SELECT * FROM t"))
        engines_timeout, engines.BUSY_TIMEOUT_MILLISECONDS = engines.BUSY_TIMEOUT_MILLISECONDS, 50
        try:
            second = open_database(url, journal_mode="delete")
        finally:
            engines.BUSY_TIMEOUT_MILLISECONDS = engines_timeout
    assert second.journal_mode == "wal"
    first.dispose()
    second.dispose()


def test_no_update_is_lost(database: Database) -> None:
    """Four threads read a number and write it back, 25 times each."""
    with database.write() as session:
        set_progress(session, "job", kind="count", done=0, total=100)

    def count_up() -> None:
        for _ in range(25):
            with database.write() as session:
                row = get_progress(session, "job")
                assert row is not None
                set_progress(session, "job", kind="count", done=row.done + 1, total=100)

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        row = get_progress(session, "job")
        assert row is not None
        assert row.done == 100


def test_a_reader_sees_one_moment_and_cannot_write(database: Database) -> None:
    with pytest.raises((StorageError, DBAPIError)), database.read() as session:
        add_prompts(session, ["a tree"], "own")
    with database.read() as session:
        assert list_prompts(session) == []


def test_an_error_rolls_everything_back(database: Database) -> None:
    with pytest.raises(StorageError), database.write() as session:
        add_prompts(session, ["a tree", ""], "own")
    with database.read() as session:
        assert list_prompts(session) == []


def test_a_writer_that_waits_too_long_says_so(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "BUSY_TIMEOUT_MILLISECONDS", 50)
    database = open_database(database_url)
    with database.write(), pytest.raises(DatabaseBusy, match="busy"), database.write():
        pass
    database.dispose()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.errors.AdminShutdown("terminating connection"), DatabaseAway),
        (psycopg.errors.CannotConnectNow("the database system is starting up"), DatabaseAway),
        (psycopg.OperationalError("server closed the connection unexpectedly"), DatabaseAway),
        (psycopg.errors.LockNotAvailable("canceling statement"), DatabaseBusy),
        (psycopg.errors.QueryCanceled("canceling statement"), type(None)),
    ],
)
def test_a_server_that_is_started_again_may_be_waited_for(
    error: Exception, kind: type[object]
) -> None:
    assert type(as_storage_error(error)) is kind


def test_a_full_disk_says_so_and_keeps_what_was_saved(sqlite_database: Database) -> None:
    with sqlite_database.write() as session:
        add_prompts(session, ["saved"], "own")
        pages = session.execute(text("PRAGMA page_count")).scalar()
        session.execute(text(f"PRAGMA max_page_count={pages}"))
    with pytest.raises(DiskFull, match="full"), sqlite_database.write() as session:
        add_prompts(session, [f"{number} ".ljust(1900, "x") for number in range(20)], "own")
    with sqlite_database.write() as session:
        session.execute(text("PRAGMA max_page_count=1000000"))
        add_prompts(session, ["after"], "own")
        assert [prompt.text for prompt in list_prompts(session)] == ["saved", "after"]


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://a/b",
        "nonsense",
        "sqlite:////no/such/folder/a.db",
        "postgresql://studio:secret@127.0.0.1:1/none",
    ],
)
def test_what_cannot_be_opened_is_refused_in_one_sentence(url: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_database(url)
    assert str(caught.value).endswith(".")
    assert "secret" not in str(caught.value)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"not a database at all, but long enough to be read" * 20)
    with pytest.raises(StorageError, match="not a database"):
        open_database(f"sqlite:///{tmp_path / 'a.db'}")


def test_the_password_stays_out_of_logs() -> None:
    # engines connect at first use: none is reached here
    engine = create_engine("postgresql+psycopg://studio:secret@127.0.0.1:1/none")
    shown = repr(Database("postgresql://studio:secret@127.0.0.1:1/none", engine, engine, None))
    assert "studio:***@" in shown
    assert "secret" not in shown
