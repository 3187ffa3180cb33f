"""What database drivers and disks report, said as one sentence of ours."""

from __future__ import annotations

import errno
import sqlite3

from storage.errors import DatabaseAway, DatabaseBusy, DiskFull, StorageError

FULL = "The disk is full; free some space and try again (what was saved is intact)."
BUSY = "The database is busy with another program; try again in a moment."
UNREACHABLE = "The database cannot be reached; check that its server runs and the URL is right."

_SQLITE: dict[int, str] = {
    sqlite3.SQLITE_READONLY: "The database cannot be written to; check the folder's permissions.",
    sqlite3.SQLITE_CANTOPEN: "The database file cannot be opened; check its folder's permissions.",
    sqlite3.SQLITE_CORRUPT: "The database file is damaged; restore the latest backup beside it.",
    sqlite3.SQLITE_NOTADB: "The file is not a database of this program; choose another.",
    sqlite3.SQLITE_IOERR: "The disk failed while the database was in use; check it and try again.",
}


def as_storage_error(error: BaseException | None) -> StorageError | None:
    """The sentence for an error of sqlite3, psycopg or the file system; None if it is no such."""
    if isinstance(error, OSError):
        return DiskFull(FULL) if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
    if isinstance(error, sqlite3.Error):
        return _from_sqlite(getattr(error, "sqlite_errorcode", 0))
    return _from_postgresql(error)


def _from_sqlite(code: int) -> StorageError | None:
    primary = code & 0xFF
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return DatabaseBusy(BUSY)
    if primary == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_WRITE:
        return DiskFull(FULL)
    sentence = _SQLITE.get(primary)
    return None if sentence is None else StorageError(sentence)


def _from_postgresql(error: BaseException | None) -> StorageError | None:
    state = getattr(error, "sqlstate", None)
    if state in ("55P03", "40P01"):  # lock not available, deadlock
        return DatabaseBusy(BUSY)
    if state == "53100":
        return DiskFull(FULL)
    # no state at all: the server was never reached; 08, 57P: it went away
    if state is None:
        away = type(error).__name__ == "OperationalError"
    else:
        away = state.startswith(("08", "57P", "28", "3D"))
    return DatabaseAway(UNREACHABLE) if away else None
