"""Pictures that are variations of another seed's.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two columns; every picture so far has a seed of its own."""
    op.add_column("images", sa.Column("variation_seed", sa.BigInteger(), nullable=True))
    op.add_column("images", sa.Column("variation_strength", sa.Float(53), nullable=True))
