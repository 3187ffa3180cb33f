"""Adapters: usable LoRA weights in a folder of the workspace."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import CursorResult, delete, select
from sqlalchemy.orm import Session

from storage.checks import get_row
from storage.errors import InvalidInput
from storage.rounds import write_as_attempt
from storage.schema import Adapter, new_id


def add_adapter(
    session: Session,
    *,
    sha256: str,
    folder: str,
    model: str,
    rank: int,
    alpha: float,
    step: int,
    round_id: str | None = None,
    attempt: int | None = None,
    adapter_id: str | None = None,
) -> Adapter:
    """Store an adapter whose files are in `folder` (relative, with forward slashes).

    With a round, `attempt` is needed and fences the write (StaleAttempt), and the round's
    adapter becomes this one; storing the same weights in the same folder twice returns the
    first row. Without a round it is an imported adapter.
    """
    folder = _checked_folder(folder)
    if (round_id is None) != (attempt is None):
        raise InvalidInput("An adapter of a round is stored by an attempt; pass both or neither.")
    round_ = None
    if round_id is not None and attempt is not None:
        round_ = write_as_attempt(session, round_id, attempt)
    same = select(Adapter).where(
        Adapter.sha256 == sha256,
        Adapter.folder == folder,
        Adapter.round_id.is_not_distinct_from(round_id),
    )
    adapter = session.scalar(same.order_by(Adapter.created_at).limit(1))
    if adapter is None:
        adapter = Adapter(
            id=adapter_id or new_id(),
            sha256=sha256,
            folder=folder,
            round_id=round_id,
            model=model,
            rank=rank,
            alpha=alpha,
            step=step,
        )
        session.add(adapter)
        session.flush()
    if round_ is not None:
        round_.adapter_id = adapter.id
        session.flush()
    return adapter


def add_snapshot(
    session: Session,
    *,
    sha256: str,
    folder: str,
    model: str,
    rank: int,
    alpha: float,
    step: int,
    round_id: str,
    attempt: int,
) -> Adapter:
    """Store a round's weights at an earlier step beside those it is used with.

    Another one of this step and folder is replaced. Raises StaleAttempt if fenced out.
    """
    folder = _checked_folder(folder)
    write_as_attempt(session, round_id, attempt)
    place = (Adapter.round_id == round_id, Adapter.step == step, Adapter.folder == folder)
    row = session.scalar(select(Adapter).where(*place))
    if row is None:
        row = Adapter(round_id=round_id, step=step, folder=folder)
        session.add(row)
    row.sha256, row.model, row.rank, row.alpha = sha256, model, rank, alpha
    session.flush()
    return row


def drop_snapshots_after(session: Session, round_id: str, attempt: int, step: int) -> int:
    """Forget weights beyond a checkpoint that training goes on from; returns how many."""
    used = write_as_attempt(session, round_id, attempt).adapter_id
    beyond = delete(Adapter).where(Adapter.round_id == round_id, Adapter.step > step)
    gone: CursorResult[Any] = session.execute(  # type: ignore[assignment]
        beyond if used is None else beyond.where(Adapter.id != used)
    )
    return gone.rowcount


def _checked_folder(folder: str) -> str:
    path = PurePosixPath(folder)
    if path.is_absolute() or ".." in path.parts or "\\" in folder or ":" in folder:
        raise InvalidInput(f"The folder {folder!r} must be inside the workspace; give it relative.")
    return str(path)


def get_adapter(session: Session, adapter_id: str) -> Adapter:
    """The adapter with this id; NotFound if there is none."""
    return get_row(session, Adapter, adapter_id)


def list_adapters(
    session: Session, model: str | None = None, *, round_id: str | None = None
) -> list[Adapter]:
    """All adapters, oldest first, or those of one model; a round's by step."""
    query = select(Adapter)
    if model is not None:
        query = query.where(Adapter.model == model)
    if round_id is not None:
        query = query.where(Adapter.round_id == round_id).order_by(Adapter.step)
    return list(session.scalars(query.order_by(Adapter.created_at, Adapter.id)))
