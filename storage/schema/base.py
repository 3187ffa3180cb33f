"""Column types, names of constraints and the closed sets of words that tables share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar, Literal
from uuid import uuid4

from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Split = Literal["train", "validation", "held_out"]
PromptSource = Literal["starter", "own", "comparison"]
PairState = Literal["ready", "retired"]
AdapterOn = Literal["prompt", "both"]
Answer = Literal["left", "right", "tie", "both_bad", "skip"]
Side = Literal["left", "right"]
RoundState = Literal[
    "queued",
    "running",
    "pausing",
    "paused",
    "cancelling",
    "cancelled",
    "finishing",
    "done",
    "failed",
]
RoundStage = Literal["freeze", "cache", "train", "render", "score"]
RoundRequest = Literal["pause", "cancel", "finish"]


def new_id() -> str:
    """A fresh opaque id."""
    return uuid4().hex


def utc_now() -> datetime:
    """Now, aware, in UTC."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes on every database; SQLite itself keeps no time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("A time without a zone cannot be stored; pass an aware datetime.")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Common names and types; every constraint has a name so that migrations can change it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        int: Integer(),
        float: Float(53),
        datetime: UtcDateTime(),
        dict[str, Any]: JSON(),
    }


def one_of(column: str, *values: str) -> CheckConstraint:
    """A check that a column holds one of these words."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def primary_id() -> Mapped[str]:
    """The id column of a table whose rows are made here."""
    return mapped_column(String(64), primary_key=True, default=new_id)


def reference(target: str) -> Mapped[Any]:
    """A foreign key to the id of another table; null is allowed if the annotation says so."""
    return mapped_column(String(64), ForeignKey(f"{target}.id"))
