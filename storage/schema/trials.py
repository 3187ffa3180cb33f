"""Blind trials: pictures of two models shown without names, and the votes on them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from storage.schema.base import Answer, Base, Side, one_of, primary_id, reference, utc_now
from storage.schema.labelling import Prompt
from storage.schema.results import Comparison


class Trial(Base):
    """A round against its base (null: the base model), on prompts and seeds of its own."""

    __tablename__ = "trials"
    __table_args__ = (UniqueConstraint("position"), Index(None, "round_id"))

    id: Mapped[str] = primary_id()
    model: Mapped[str]
    round_id: Mapped[str] = reference("rounds")
    base_round_id: Mapped[str | None] = reference("rounds")
    scale: Mapped[float]
    generation: Mapped[dict[str, Any]]
    planned: Mapped[int]
    first_look: Mapped[int | None]
    job_id: Mapped[str | None] = mapped_column(String(200))
    position: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class TrialItem(Base):
    """One prompt and seed of a trial; its comparison is there once it has been drawn."""

    __tablename__ = "trial_items"

    trial_id: Mapped[str] = mapped_column(String(64), ForeignKey("trials.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    prompt_id: Mapped[str] = reference("prompts")
    seed: Mapped[int] = mapped_column(BigInteger)
    comparison_id: Mapped[str | None] = reference("comparisons")

    prompt: Mapped[Prompt] = relationship(lazy="joined", innerjoin=True)
    comparison: Mapped[Comparison | None] = relationship(lazy="joined")


class Vote(Base):
    """A judgement as it was shown; undoing sets `undone_at` and keeps the row."""

    __tablename__ = "votes"
    __table_args__ = (
        one_of("choice", "left", "right", "tie", "both_bad", "skip"),
        one_of("aligned_side", "left", "right"),
        UniqueConstraint("key"),
        UniqueConstraint("position"),
        ForeignKeyConstraint(
            ["trial_id", "item_position"], ["trial_items.trial_id", "trial_items.position"]
        ),
        Index(
            "uq_votes_live",
            "trial_id",
            "item_position",
            "annotator",
            unique=True,
            sqlite_where=text("undone_at IS NULL"),
            postgresql_where=text("undone_at IS NULL"),
        ),
    )

    id: Mapped[str] = primary_id()
    key: Mapped[str] = mapped_column(String(200))
    trial_id: Mapped[str] = mapped_column(String(64))
    item_position: Mapped[int]
    choice: Mapped[Answer] = mapped_column(String(16))
    aligned_side: Mapped[Side] = mapped_column(String(16))
    milliseconds: Mapped[int | None]
    annotator: Mapped[str] = mapped_column(String(200))
    position: Mapped[int]
    undone_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
