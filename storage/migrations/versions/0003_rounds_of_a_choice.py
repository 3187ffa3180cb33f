"""An index to find the rounds that learnt from a choice.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index; no table is made anew."""
    op.create_index("ix_round_pairs_choice_id", "round_pairs", ["choice_id"])
