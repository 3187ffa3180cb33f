"""The durable job engine (DBOS), seen from outside: enqueue, cancel, status. Torch-free.

Jobs are rows in a database of their own, apart from the studio's tables: SQLite in the workspace
by default, PostgreSQL by URL. One such database belongs to one workspace. Only JSON goes in and
out of it.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import sqlalchemy
from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer, WorkflowStatus

from inpo_studio.settings import Settings

APPLICATION = "inpo-studio"
VERSION = "1"
"""Fixed: the engine strands jobs of another version, and an upgrade must not strand a round."""
QUEUE = "jobs"
WORKFLOW = "job"
BRIEF, USUAL, SPARE = 1, 2, 3  # priorities: what a person waits for, work, what fills idle time
QUEUE_POLL_S = 0.2
WAIT_POLL_S = 0.1
RECENT = 50
KEEP_FINISHED_S = 7 * 24 * 3600.0

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
_FINISHED: frozenset[JobState] = frozenset({"done", "failed", "cancelled"})

_STATES: Mapping[str, JobState] = {
    "DELAYED": "queued",
    "ENQUEUED": "queued",
    "PENDING": "running",
    "SUCCESS": "done",
    "ERROR": "failed",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "failed",
    "CANCELLED": "cancelled",
}
_GIVEN_UP = "Each worker that tried this job died, so it was given up; see the workspace's logs."


class EngineError(Exception):
    """What the job engine refuses; the message is one sentence for the user."""


@dataclass(frozen=True)
class JobStatus:
    """Where one job stands; `error` is one sentence where it failed."""

    job_id: str
    kind: str
    state: JobState
    result: Any
    error: str | None
    dispatches: int
    """How often a worker began it since it was last queued anew."""
    attributes: Mapping[str, Any]
    priority: int = USUAL

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in _FINISHED


def executor_id(settings: Settings, slot: int) -> str:
    """Return the name under which a worker's running jobs are taken up after its death.

    An SQLite database is on one machine, whose name may change (containers, laptops), so only
    workers on a shared database are told apart by host.
    """
    host = "local" if settings.jobs_url.startswith("sqlite") else platform.node()
    return f"{host}-{slot}"


def silence() -> None:
    """Keep the engine's own messages off the terminal; warnings go to the program's log."""
    logger = logging.getLogger("dbos")
    logger.setLevel(logging.WARNING)
    logger.propagate = True
    # With a handler of ours in place the engine adds none that writes to the terminal.
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


class Engine:
    """Enqueue, watch and cancel jobs; usable from several threads."""

    def __init__(self, settings: Settings) -> None:
        """Name the database; nothing is opened before the first use."""
        self._url = settings.jobs_url
        self._opened: DBOSClient | None = None
        silence()

    def prepare(self) -> None:
        """Create or migrate the engine's tables and its queue (some 40 ms; may be repeated).

        Raises EngineError for a database that cannot be used.
        """
        parsed = sqlalchemy.make_url(self._url)
        if parsed.get_backend_name() == "sqlite" and parsed.database:
            path = Path(parsed.database)
            path.parent.mkdir(parents=True, exist_ok=True)
            _refuse_pickles(path)
        try:
            DBOS.migrate(self._url)
            self._client.register_queue(
                QUEUE, worker_concurrency=1, polling_interval_sec=QUEUE_POLL_S
            )
        except (sqlalchemy.exc.SQLAlchemyError, sqlite3.Error) as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise EngineError(f"The database of the jobs cannot be used: {reason}.") from error

    def enqueue(
        self,
        kind: str,
        payload: Mapping[str, Any],
        job_id: str | None = None,
        *,
        priority: int = USUAL,
        attributes: Mapping[str, Any] | None = None,
    ) -> str:
        """Add a job and return its id; an id that is already there is left as it is.

        Jobs of a lower `priority` number go first; `attributes` are JSON values kept beside it.
        """
        job_id = job_id or uuid4().hex
        self._client.enqueue(
            {
                "workflow_name": WORKFLOW,
                "queue_name": QUEUE,
                "workflow_id": job_id,
                "app_version": VERSION,
                "attributes": {**(attributes or {}), "kind": kind},
                "priority": priority,
            },
            kind,
            dict(payload),
        )
        return job_id

    def find(self, job_id: str) -> JobStatus | None:
        """Return where a job stands, or None where there is no such job (any more)."""
        rows = self._client.list_workflows(workflow_ids=[job_id], load_input=False)
        return _status(rows[0]) if rows else None

    def unfinished(self, kind: str) -> list[JobStatus]:
        """Return the jobs of a kind that wait or run."""
        states = [name for name, state in _STATES.items() if state not in _FINISHED]
        rows = self._client.list_workflows(status=states, load_input=False, load_output=False)
        # On SQLite the engine cannot look for attributes itself.
        return [job for row in rows if (job := _status(row)).kind == kind]

    def waits_before(self, priority: int) -> bool:
        """Say whether a job of a lower priority number waits in the queue."""
        rows = self._client.list_workflows(status="ENQUEUED", queue_name=QUEUE, load_input=False)
        return any(_status(row).priority < priority for row in rows)

    def latest(self, kind: str) -> JobStatus | None:
        """Return the job of a kind that was asked for last; None where no recent one is."""
        rows = self._client.list_workflows(limit=RECENT, sort_desc=True, load_input=False)
        return next((job for row in rows if (job := _status(row)).kind == kind), None)

    def status(self, job_id: str) -> JobStatus:
        """Return where a job stands; raises EngineError where there is no such job."""
        found = self.find(job_id)
        if found is None:
            raise EngineError(f"There is no job {job_id}; finished jobs are forgotten in a week.")
        return found

    def cancel(self, job_id: str) -> None:
        """Cancel a job that has not ended: at once in the queue, at its next item when running."""
        self._client.cancel_workflow(job_id)

    def wait(
        self,
        job_id: str,
        timeout_s: float | None = None,
        on_poll: Callable[[JobStatus], None] | None = None,
    ) -> JobStatus:
        """Wait until a job has ended and return its status, failed or not.

        `on_poll` is called some ten times a second. Raises TimeoutError after `timeout_s`.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            status = self.status(job_id)
            if on_poll is not None:
                on_poll(status)
            if status.finished:
                return status
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"The job {job_id} has not ended after {timeout_s} s.")
            time.sleep(WAIT_POLL_S)

    def hand_back(self, job_ids: Iterable[str]) -> None:
        """Put running jobs back into the queue, with all their attempts before them again."""
        for job_id in job_ids:
            found = self.find(job_id)
            if found is not None and found.state == "running":  # a cancelled one would be revived
                self._client.resume_workflow(job_id, queue_name=QUEUE)

    def remember(self, job_id: str, **attributes: Any) -> None:
        """Keep a few JSON values beside a job."""
        self._client.update_workflow_attributes(job_id, attributes, merge=True)

    def prune(self, older_than_s: float = KEEP_FINISHED_S) -> int:
        """Forget jobs that ended longer ago than that; returns how many."""
        before = datetime.now(UTC) - timedelta(seconds=older_than_s)
        ended = [name for name, state in _STATES.items() if state in _FINISHED]
        rows = self._client.list_workflows(
            status=ended, completed_before=before.isoformat(), load_input=False, load_output=False
        )
        if rows:
            self._client.delete_workflows([row.workflow_id for row in rows])
        return len(rows)

    def close(self) -> None:
        """Let go of the database."""
        if self._opened is not None:
            self._opened.destroy()
            self._opened = None

    @property
    def _client(self) -> DBOSClient:
        if self._opened is None:
            self._opened = DBOSClient(
                system_database_url=self._url,
                serializer=DBOSPortableJSONSerializer(),
                application_name=APPLICATION,
                lazy=True,
                retry_connection_errors=False,  # a page must say so, not wait
            )
        return self._opened


def _status(row: WorkflowStatus) -> JobStatus:
    attributes = row.attributes or {}
    given_up = row.status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED"
    return JobStatus(
        job_id=row.workflow_id,
        kind=str(attributes.get("kind", "")),
        state=_STATES[row.status],
        result=row.output,
        error=_GIVEN_UP if given_up else None if row.error is None else str(row.error),
        dispatches=row.recovery_attempts or 0,
        attributes=attributes,
        priority=row.priority or 0,
    )


def _refuse_pickles(path: Path) -> None:
    """A workspace may come from elsewhere: the engine would unpickle rows that say so."""
    if not path.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            columns = "SELECT t.name FROM sqlite_master t, pragma_table_info(t.name) c"
            marked = f"{columns} WHERE t.type = 'table' AND c.name = 'serialization'"
            pickled = "SELECT 1 FROM \"{}\" WHERE serialization = 'py_pickle' LIMIT 1"
            tables = [name for (name,) in connection.execute(marked)]
            found = any(connection.execute(pickled.format(name)).fetchone() for name in tables)
    except sqlite3.Error as error:
        raise EngineError(f"{path} cannot be read as the jobs' database: {error}.") from error
    if found:
        raise EngineError(
            f"{path} holds pickled data, which could run code when read; "
            "delete this file if you do not know where it comes from."
        )
