"""What is drawn and what was clicked: prompts, images, pairs, choices."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Index,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from storage.schema.base import (
    AdapterOn,
    Answer,
    Base,
    PairState,
    PromptSource,
    Split,
    one_of,
    primary_id,
    reference,
    utc_now,
)


class Prompt(Base):
    """A text to draw; its split is drawn once and never changes."""

    __tablename__ = "prompts"
    __table_args__ = (
        one_of("split", "train", "validation", "held_out"),
        one_of("source", "starter", "own", "comparison"),
        UniqueConstraint("text"),
        UniqueConstraint("position"),
    )

    id: Mapped[str] = primary_id()
    text: Mapped[str]
    split: Mapped[Split] = mapped_column(String(16))
    source: Mapped[PromptSource] = mapped_column(String(16))
    position: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Image(Base):
    """One picture and everything that made it; the bytes are in the file store by hash."""

    __tablename__ = "images"
    __table_args__ = (Index(None, "prompt_id", "seed"),)

    id: Mapped[str] = primary_id()
    sha256: Mapped[str] = mapped_column(String(64))
    width: Mapped[int]
    height: Mapped[int]
    prompt_id: Mapped[str] = reference("prompts")
    seed: Mapped[int] = mapped_column(BigInteger)
    variation_seed: Mapped[int | None] = mapped_column(BigInteger)
    """Null, like the strength, where the picture starts from the noise of `seed` alone."""
    variation_strength: Mapped[float | None]
    model: Mapped[str]
    adapter_id: Mapped[str | None] = reference("adapters")
    adapter_on: Mapped[AdapterOn | None] = mapped_column(String(16))
    """The predictions of guidance that the adapter changed; null without one."""
    guidance: Mapped[float]
    steps: Mapped[int]
    negative_prompt: Mapped[str]
    latents_sha256: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Pair(Base):
    """Two pictures of one prompt by one model and adapter (null: the base model)."""

    __tablename__ = "pairs"
    __table_args__ = (
        one_of("state", "ready", "retired"),
        CheckConstraint("first_image_id <> second_image_id", name="two_images"),
        UniqueConstraint("position"),
        Index(None, "model", "adapter_id", "state"),
    )

    id: Mapped[str] = primary_id()
    prompt_id: Mapped[str] = reference("prompts")
    first_image_id: Mapped[str] = reference("images")
    second_image_id: Mapped[str] = reference("images")
    model: Mapped[str]
    adapter_id: Mapped[str | None] = reference("adapters")
    state: Mapped[PairState] = mapped_column(String(16), default="ready")
    position: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)

    prompt: Mapped[Prompt] = relationship(lazy="joined", innerjoin=True)
    first_image: Mapped[Image] = relationship(
        foreign_keys=[first_image_id], lazy="joined", innerjoin=True
    )
    second_image: Mapped[Image] = relationship(
        foreign_keys=[second_image_id], lazy="joined", innerjoin=True
    )


class Choice(Base):
    """What was clicked, as it was shown; undoing sets `undone_at` and keeps the row."""

    __tablename__ = "choices"
    __table_args__ = (
        one_of("choice", "left", "right", "tie", "both_bad", "skip"),
        CheckConstraint("left_image_id <> right_image_id", name="two_images"),
        UniqueConstraint("key"),
        UniqueConstraint("position"),
        Index(
            "uq_choices_live",
            "pair_id",
            "annotator",
            unique=True,
            sqlite_where=text("undone_at IS NULL"),
            postgresql_where=text("undone_at IS NULL"),
        ),
        Index(None, "annotator", "position"),
    )

    id: Mapped[str] = primary_id()
    key: Mapped[str] = mapped_column(String(200))
    pair_id: Mapped[str] = reference("pairs")
    choice: Mapped[Answer] = mapped_column(String(16))
    left_image_id: Mapped[str] = reference("images")
    right_image_id: Mapped[str] = reference("images")
    milliseconds: Mapped[int | None]
    annotator: Mapped[str] = mapped_column(String(200))
    position: Mapped[int]
    undone_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)

    pair: Mapped[Pair] = relationship(lazy="joined", innerjoin=True)
