"""What a round froze, did and made: rounds, frozen pairs, metrics, adapters."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from storage.schema.base import (
    Base,
    RoundRequest,
    RoundStage,
    RoundState,
    one_of,
    primary_id,
    reference,
    utc_now,
)
from storage.schema.labelling import Image, Prompt


class Round(Base):
    """One alignment: its configuration, where it stands, and the adapter it made."""

    __tablename__ = "rounds"
    __table_args__ = (
        one_of(
            "state",
            "queued",
            "running",
            "pausing",
            "paused",
            "cancelling",
            "cancelled",
            "finishing",
            "done",
            "failed",
        ),
        one_of("stage", "freeze", "cache", "train", "render", "score"),
        one_of("requested", "pause", "cancel", "finish"),
        UniqueConstraint("number"),
        # rounds and adapters name each other; this side is added once both tables exist
        ForeignKeyConstraint(["adapter_id"], ["adapters.id"], use_alter=True),
    )

    id: Mapped[str] = primary_id()
    number: Mapped[int]
    model: Mapped[str]
    parent_id: Mapped[str | None] = reference("rounds")
    config: Mapped[dict[str, Any]]
    selection: Mapped[dict[str, Any] | None]
    seed: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[RoundState] = mapped_column(String(16), default="queued")
    stage: Mapped[RoundStage | None] = mapped_column(String(16))
    step: Mapped[int] = mapped_column(default=0)
    total_steps: Mapped[int] = mapped_column(default=0)
    requested: Mapped[RoundRequest | None] = mapped_column(String(16))
    attempt: Mapped[int] = mapped_column(default=0)
    adapter_id: Mapped[str | None] = mapped_column(String(64))
    failure: Mapped[str | None]
    job_id: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class RoundPair(Base):
    """A choice as a round froze it: `preference` is how surely the winner is better."""

    __tablename__ = "round_pairs"
    __table_args__ = (
        one_of("split", "train", "validation"),
        CheckConstraint("preference >= 0.5 AND preference <= 1.0", name="preference"),
        UniqueConstraint("round_id", "choice_id"),
        Index(None, "choice_id"),
    )

    round_id: Mapped[str] = mapped_column(String(64), ForeignKey("rounds.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    pair_id: Mapped[str] = reference("pairs")
    choice_id: Mapped[str] = reference("choices")
    prompt_id: Mapped[str] = reference("prompts")
    winner_image_id: Mapped[str] = reference("images")
    loser_image_id: Mapped[str] = reference("images")
    preference: Mapped[float]
    split: Mapped[Literal["train", "validation"]] = mapped_column(String(16))

    prompt: Mapped[Prompt] = relationship(lazy="joined", innerjoin=True)
    winner_image: Mapped[Image] = relationship(
        foreign_keys=[winner_image_id], lazy="joined", innerjoin=True
    )
    loser_image: Mapped[Image] = relationship(
        foreign_keys=[loser_image_id], lazy="joined", innerjoin=True
    )


class Metric(Base):
    """What was measured at one optimiser step; null where it was not, or was not finite.

    Errors are the policy's minus the reference's; shares are between 0 and 1.
    """

    __tablename__ = "metrics"

    round_id: Mapped[str] = mapped_column(String(64), ForeignKey("rounds.id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    loss: Mapped[float | None]
    train_ranked_right: Mapped[float | None]
    validation_ranked_right: Mapped[float | None]
    margin: Mapped[float | None]
    validation_margin: Mapped[float | None]
    winner_error: Mapped[float | None]
    loser_error: Mapped[float | None]
    gradient_norm: Mapped[float | None]
    learning_rate: Mapped[float | None]
    seconds: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Sample(Base):
    """A picture that a round drew of a fixed prompt and seed after `step` optimiser steps."""

    __tablename__ = "samples"
    __table_args__ = (UniqueConstraint("round_id", "step", "position"),)

    id: Mapped[str] = primary_id()
    round_id: Mapped[str] = reference("rounds")
    step: Mapped[int]
    position: Mapped[int]
    prompt_id: Mapped[str] = reference("prompts")
    seed: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    width: Mapped[int]
    height: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)

    prompt: Mapped[Prompt] = relationship(lazy="joined", innerjoin=True)


class Adapter(Base):
    """Usable LoRA weights; `folder` is relative to the workspace.

    A round may keep those of several steps; `Round.adapter_id` says which are in use.
    """

    __tablename__ = "adapters"
    __table_args__ = (Index(None, "round_id"),)

    id: Mapped[str] = primary_id()
    sha256: Mapped[str] = mapped_column(String(64))
    folder: Mapped[str]
    round_id: Mapped[str | None] = reference("rounds")
    model: Mapped[str]
    rank: Mapped[int]
    alpha: Mapped[float]
    step: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
