"""What a worker puts right beside its jobs: rounds whose job has ended without them, leftovers."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from inpo_studio.engine import Engine
from storage.engines import Database
from storage.errors import StorageError
from storage.rounds import list_rounds, request, set_state
from storage.schema import Round
from storage.transitions import WORKED_ON

FORGOTTEN = "Its job is no longer known to the job engine; resume the round to go on."
ENDED = "Its job ended without saying how; resume the round to go on."

log = logging.getLogger("inpo_studio.jobs.upkeep")


def settle_rounds(database: Database, engine: Engine) -> None:
    """Bring rounds into line with their jobs.

    A waiting round whose job was never enqueued (the studio was killed between the two) is
    enqueued; one whose job was given up, failed, was cancelled or is lost ends accordingly.
    """
    with database.read() as session:
        open_rounds = [
            row for row in list_rounds(session) if row.state == "queued" or row.state in WORKED_ON
        ]
    for row in open_rounds:
        try:
            _settle(database, engine, row)
        except StorageError as error:
            log.info("round %s: %s", row.id, error)  # it has moved on by itself


def _settle(database: Database, engine: Engine, row: Round) -> None:
    job = None if row.job_id is None else engine.find(row.job_id)
    if job is None:
        if row.state == "queued":
            if row.job_id is not None:
                engine.enqueue("round", {"round_id": row.id}, job_id=row.job_id)
            return
        failure: str | None = FORGOTTEN
    elif not job.finished:
        return
    elif job.state == "cancelled":
        failure = None
    else:
        failure = job.error or ENDED
    with database.write() as session:
        if failure is not None:
            set_state(session, row.id, "failed", failure=failure)
        elif request(session, row.id, "cancel").state == "cancelling":
            set_state(session, row.id, "cancelled")


def sweep_rounds(database: Database, workspace: Path) -> list[Path]:
    """Remove what rounds that are done or cancelled need no more; returns the folders removed.

    Their checkpoints can never be gone on from. Adapters stay: one of an earlier step may still
    be kept, and folders of rounds that this database does not know are none of its business.
    """
    rounds = workspace / "rounds"
    found = [*rounds.glob("*/checkpoints"), *rounds.glob("*/adapters/.*.tmp")]
    if not found:
        return []
    with database.read() as session:
        rows = list_rounds(session)
    over = {row.id for row in rows if row.state in ("done", "cancelled")}
    gone = []
    for path in found:
        if path.relative_to(rounds).parts[0] in over:
            shutil.rmtree(path, ignore_errors=True)
            gone.append(path)
    return gone
