"""How far a job has come, for progress bars."""

from __future__ import annotations

from sqlalchemy.orm import Session

from storage.schema import JobProgress, utc_now


def set_progress(
    session: Session, job_id: str, *, kind: str, done: int, total: int, note: str = ""
) -> JobProgress:
    """Say how far a job is, in place of what was said before."""
    row = session.merge(
        JobProgress(
            job_id=job_id, kind=kind, done=done, total=total, note=note, updated_at=utc_now()
        )
    )
    session.flush()
    return row


def get_progress(session: Session, job_id: str) -> JobProgress | None:
    """How far a job is; None if it has said nothing yet."""
    return session.get(JobProgress, job_id)
