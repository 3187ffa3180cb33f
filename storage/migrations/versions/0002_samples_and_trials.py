"""What a round learns from, its samples, comparisons of any two, and blind trials.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage.migrations.columns import check, id_column, link_column, number_column, time_column

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two columns, then the tables, each after those it names."""
    op.add_column("rounds", sa.Column("selection", sa.JSON(), nullable=True))
    # SQLite adds no named foreign key to a table that stands
    lite = op.get_bind().dialect.name == "sqlite"
    with op.batch_alter_table("comparisons", recreate="always" if lite else "never") as table:
        table.add_column(link_column("comparisons", "base_round_id", "rounds", nullable=True))
    _samples()
    _trials()
    _trial_items()
    _votes()


def _samples() -> None:
    op.create_table(
        "samples",
        id_column("id"),
        link_column("samples", "round_id", "rounds"),
        number_column("step"),
        number_column("position"),
        link_column("samples", "prompt_id", "prompts"),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        id_column("sha256"),
        number_column("width"),
        number_column("height"),
        time_column("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_samples"),
        sa.UniqueConstraint(
            "round_id", "step", "position", name="uq_samples_round_id_step_position"
        ),
    )


def _trials() -> None:
    op.create_table(
        "trials",
        id_column("id"),
        sa.Column("model", sa.Text(), nullable=False),
        link_column("trials", "round_id", "rounds"),
        link_column("trials", "base_round_id", "rounds", nullable=True),
        sa.Column("scale", sa.Float(53), nullable=False),
        sa.Column("generation", sa.JSON(), nullable=False),
        number_column("planned"),
        sa.Column("first_look", sa.Integer(), nullable=True),
        sa.Column("job_id", sa.String(200), nullable=True),
        number_column("position"),
        time_column("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_trials"),
        sa.UniqueConstraint("position", name="uq_trials_position"),
    )
    op.create_index("ix_trials_round_id", "trials", ["round_id"])


def _trial_items() -> None:
    op.create_table(
        "trial_items",
        link_column("trial_items", "trial_id", "trials"),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        link_column("trial_items", "prompt_id", "prompts"),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        link_column("trial_items", "comparison_id", "comparisons", nullable=True),
        sa.PrimaryKeyConstraint("trial_id", "position", name="pk_trial_items"),
    )


def _votes() -> None:
    op.create_table(
        "votes",
        id_column("id"),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("trial_id", sa.String(64), nullable=False),
        number_column("item_position"),
        sa.Column("choice", sa.String(16), nullable=False),
        sa.Column("aligned_side", sa.String(16), nullable=False),
        sa.Column("milliseconds", sa.Integer(), nullable=True),
        sa.Column("annotator", sa.String(200), nullable=False),
        number_column("position"),
        time_column("undone_at", nullable=True),
        time_column("created_at"),
        check("ck_votes_choice", "choice IN ('left', 'right', 'tie', 'both_bad', 'skip')"),
        check("ck_votes_aligned_side", "aligned_side IN ('left', 'right')"),
        sa.ForeignKeyConstraint(
            ["trial_id", "item_position"],
            ["trial_items.trial_id", "trial_items.position"],
            name="fk_votes_trial_id_item_position",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_votes"),
        sa.UniqueConstraint("key", name="uq_votes_key"),
        sa.UniqueConstraint("position", name="uq_votes_position"),
    )
    op.create_index(
        "uq_votes_live",
        "votes",
        ["trial_id", "item_position", "annotator"],
        unique=True,
        sqlite_where=sa.text("undone_at IS NULL"),
        postgresql_where=sa.text("undone_at IS NULL"),
    )
