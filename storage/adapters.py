"""Adapters: usable LoRA weights in a folder of the workspace."""

from __future__ import annotations

from pathlib import PurePosixPath

from sqlalchemy import select
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
    adapter becomes this one; storing the same weights twice returns the first row. Without a
    round it is an imported adapter.
    """
    path = PurePosixPath(folder)
    if path.is_absolute() or ".." in path.parts or "\\" in folder or ":" in folder:
        raise InvalidInput(f"The folder {folder!r} must be inside the workspace; give it relative.")
    if (round_id is None) != (attempt is None):
        raise InvalidInput("An adapter of a round is stored by an attempt; pass both or neither.")
    round_ = None
    if round_id is not None and attempt is not None:
        round_ = write_as_attempt(session, round_id, attempt)
    same = select(Adapter).where(
        Adapter.sha256 == sha256, Adapter.round_id.is_not_distinct_from(round_id)
    )
    adapter = session.scalar(same.order_by(Adapter.created_at).limit(1))
    if adapter is None:
        adapter = Adapter(
            id=adapter_id or new_id(),
            sha256=sha256,
            folder=str(path),
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


def get_adapter(session: Session, adapter_id: str) -> Adapter:
    """The adapter with this id; NotFound if there is none."""
    return get_row(session, Adapter, adapter_id)


def list_adapters(session: Session, model: str | None = None) -> list[Adapter]:
    """All adapters, or those of one model, oldest first."""
    query = select(Adapter).order_by(Adapter.created_at, Adapter.id)
    if model is not None:
        query = query.where(Adapter.model == model)
    return list(session.scalars(query))
