"""Columns as migrations write them; like a published migration, never edited."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op


def id_column(name: str, *, nullable: bool = False) -> sa.Column[str]:
    """An id or a hash."""
    return sa.Column(name, sa.String(64), nullable=nullable)


def time_column(name: str, *, nullable: bool = False) -> sa.Column[datetime]:
    """A time with its zone."""
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def number_column(name: str) -> sa.Column[int]:
    """A whole number."""
    return sa.Column(name, sa.Integer(), nullable=False)


def link_column(
    table: str, column: str, target: str, *, nullable: bool = False, use_alter: bool = False
) -> sa.Column[str]:
    """A named foreign key to the id of another table."""
    key = sa.ForeignKey(f"{target}.id", name=f"fk_{table}_{column}", use_alter=use_alter)
    return sa.Column(column, sa.String(64), key, nullable=nullable)


def check(name: str, condition: str) -> sa.CheckConstraint:
    """A check whose name is used as it stands."""
    return sa.CheckConstraint(condition, name=op.f(name))
