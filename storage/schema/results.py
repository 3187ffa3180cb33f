"""What is shown beside a round: comparisons, the adopted round of a model, progress of jobs."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Index,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from storage.schema.base import (
    Base,
    primary_id,
    reference,
    utc_now,
)
from storage.schema.labelling import Image, Prompt


class Comparison(Base):
    """Base and aligned pictures of one prompt and seed.

    The base picture is by `base_round_id`'s adapter, or by the base model where that is null.
    """

    __tablename__ = "comparisons"
    __table_args__ = (UniqueConstraint("position"), Index(None, "round_id"))

    id: Mapped[str] = primary_id()
    round_id: Mapped[str | None] = reference("rounds")
    base_round_id: Mapped[str | None] = reference("rounds")
    adapter_id: Mapped[str | None] = reference("adapters")
    prompt_id: Mapped[str] = reference("prompts")
    seed: Mapped[int] = mapped_column(BigInteger)
    base_image_id: Mapped[str] = reference("images")
    aligned_image_id: Mapped[str] = reference("images")
    scale: Mapped[float]
    position: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)

    prompt: Mapped[Prompt] = relationship(lazy="joined", innerjoin=True)
    base_image: Mapped[Image] = relationship(
        foreign_keys=[base_image_id], lazy="joined", innerjoin=True
    )
    aligned_image: Mapped[Image] = relationship(
        foreign_keys=[aligned_image_id], lazy="joined", innerjoin=True
    )


class ModelState(Base):
    """Which round's adapter a model is used with; null is the base model."""

    __tablename__ = "model_states"

    model: Mapped[str] = mapped_column(String(500), primary_key=True)
    adopted_round_id: Mapped[str | None] = reference("rounds")


class JobProgress(Base):
    """How far a job has come, for progress bars; written by the worker, read by the studio."""

    __tablename__ = "job_progress"

    job_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    kind: Mapped[str] = mapped_column(String(64))
    done: Mapped[int]
    total: Mapped[int]
    note: Mapped[str]
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)
