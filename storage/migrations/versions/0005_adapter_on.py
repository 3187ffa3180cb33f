"""Which predictions the adapter changed where a picture was drawn with guidance.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column; adapters were on both predictions so far, in what trials still draw as well."""
    op.add_column("images", sa.Column("adapter_on", sa.String(16), nullable=True))
    connection = op.get_bind()
    connection.execute(
        sa.text("UPDATE images SET adapter_on = 'both' WHERE adapter_id IS NOT NULL")
    )
    trials = sa.table("trials", sa.column("id", sa.String), sa.column("generation", sa.JSON))
    for trial_id, generation in connection.execute(sa.select(trials.c.id, trials.c.generation)):
        connection.execute(
            sa.update(trials)
            .where(trials.c.id == trial_id)
            .values(generation={**generation, "adapter_on": "both"})
        )
