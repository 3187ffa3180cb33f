"""The first schema.

Revision ID: 0001
Revises: nothing
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from storage.migrations.columns import check, id_column, link_column, number_column, time_column

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

OUTCOMES = ("loss", "train_ranked_right", "validation_ranked_right", "margin", "validation_margin")
STEP = ("winner_error", "loser_error", "gradient_norm", "learning_rate", "seconds")


def upgrade() -> None:
    """Make all tables, each after those it names."""
    _prompts()
    _rounds()
    _adapters()
    if op.get_bind().dialect.name != "sqlite":  # where it is part of the table already
        op.create_foreign_key("fk_rounds_adapter_id", "rounds", "adapters", ["adapter_id"], ["id"])
    _images()
    _pairs()
    _choices()
    _round_pairs()
    _metrics()
    _comparisons()
    _states()


def _prompts() -> None:
    op.create_table(
        "prompts",
        id_column("id"),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("split", sa.String(16), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        number_column("position"),
        time_column("created_at"),
        check("ck_prompts_source", "source IN ('starter', 'own', 'comparison')"),
        check("ck_prompts_split", "split IN ('train', 'validation', 'held_out')"),
        sa.PrimaryKeyConstraint("id", name="pk_prompts"),
        sa.UniqueConstraint("position", name="uq_prompts_position"),
        sa.UniqueConstraint("text", name="uq_prompts_text"),
    )


def _rounds() -> None:
    op.create_table(
        "rounds",
        id_column("id"),
        number_column("number"),
        sa.Column("model", sa.Text(), nullable=False),
        link_column("rounds", "parent_id", "rounds", nullable=True),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("stage", sa.String(16), nullable=True),
        number_column("step"),
        number_column("total_steps"),
        sa.Column("requested", sa.String(16), nullable=True),
        number_column("attempt"),
        link_column("rounds", "adapter_id", "adapters", nullable=True, use_alter=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("job_id", sa.String(200), nullable=True),
        time_column("created_at"),
        time_column("started_at", nullable=True),
        time_column("ended_at", nullable=True),
        check("ck_rounds_requested", "requested IN ('pause', 'cancel', 'finish')"),
        check("ck_rounds_stage", "stage IN ('freeze', 'cache', 'train', 'render', 'score')"),
        check(
            "ck_rounds_state",
            "state IN ('queued', 'running', 'pausing', 'paused', "
            "'cancelling', 'cancelled', 'finishing', 'done', 'failed')",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_rounds"),
        sa.UniqueConstraint("number", name="uq_rounds_number"),
    )


def _adapters() -> None:
    op.create_table(
        "adapters",
        id_column("id"),
        id_column("sha256"),
        sa.Column("folder", sa.Text(), nullable=False),
        link_column("adapters", "round_id", "rounds", nullable=True),
        sa.Column("model", sa.Text(), nullable=False),
        number_column("rank"),
        sa.Column("alpha", sa.Float(53), nullable=False),
        number_column("step"),
        time_column("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_adapters"),
    )
    op.create_index("ix_adapters_round_id", "adapters", ["round_id"])


def _images() -> None:
    op.create_table(
        "images",
        id_column("id"),
        id_column("sha256"),
        number_column("width"),
        number_column("height"),
        link_column("images", "prompt_id", "prompts"),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        link_column("images", "adapter_id", "adapters", nullable=True),
        sa.Column("guidance", sa.Float(53), nullable=False),
        number_column("steps"),
        sa.Column("negative_prompt", sa.Text(), nullable=False),
        id_column("latents_sha256", nullable=True),
        time_column("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_images"),
    )
    op.create_index("ix_images_prompt_id_seed", "images", ["prompt_id", "seed"])


def _pairs() -> None:
    op.create_table(
        "pairs",
        id_column("id"),
        link_column("pairs", "prompt_id", "prompts"),
        link_column("pairs", "first_image_id", "images"),
        link_column("pairs", "second_image_id", "images"),
        sa.Column("model", sa.Text(), nullable=False),
        link_column("pairs", "adapter_id", "adapters", nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        number_column("position"),
        time_column("created_at"),
        check("ck_pairs_state", "state IN ('ready', 'retired')"),
        check("ck_pairs_two_images", "first_image_id <> second_image_id"),
        sa.PrimaryKeyConstraint("id", name="pk_pairs"),
        sa.UniqueConstraint("position", name="uq_pairs_position"),
    )
    op.create_index("ix_pairs_model_adapter_id_state", "pairs", ["model", "adapter_id", "state"])


def _choices() -> None:
    op.create_table(
        "choices",
        id_column("id"),
        sa.Column("key", sa.String(200), nullable=False),
        link_column("choices", "pair_id", "pairs"),
        sa.Column("choice", sa.String(16), nullable=False),
        link_column("choices", "left_image_id", "images"),
        link_column("choices", "right_image_id", "images"),
        sa.Column("milliseconds", sa.Integer(), nullable=True),
        sa.Column("annotator", sa.String(200), nullable=False),
        number_column("position"),
        time_column("undone_at", nullable=True),
        time_column("created_at"),
        check("ck_choices_choice", "choice IN ('left', 'right', 'tie', 'both_bad', 'skip')"),
        check("ck_choices_two_images", "left_image_id <> right_image_id"),
        sa.PrimaryKeyConstraint("id", name="pk_choices"),
        sa.UniqueConstraint("key", name="uq_choices_key"),
        sa.UniqueConstraint("position", name="uq_choices_position"),
    )
    op.create_index("ix_choices_annotator_position", "choices", ["annotator", "position"])
    op.create_index(
        "uq_choices_live",
        "choices",
        ["pair_id", "annotator"],
        unique=True,
        sqlite_where=sa.text("undone_at IS NULL"),
        postgresql_where=sa.text("undone_at IS NULL"),
    )


def _round_pairs() -> None:
    op.create_table(
        "round_pairs",
        link_column("round_pairs", "round_id", "rounds"),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        link_column("round_pairs", "pair_id", "pairs"),
        link_column("round_pairs", "choice_id", "choices"),
        link_column("round_pairs", "prompt_id", "prompts"),
        link_column("round_pairs", "winner_image_id", "images"),
        link_column("round_pairs", "loser_image_id", "images"),
        sa.Column("preference", sa.Float(53), nullable=False),
        sa.Column("split", sa.String(16), nullable=False),
        check("ck_round_pairs_split", "split IN ('train', 'validation')"),
        check("ck_round_pairs_preference", "preference >= 0.5 AND preference <= 1.0"),
        sa.PrimaryKeyConstraint("round_id", "position", name="pk_round_pairs"),
        sa.UniqueConstraint("round_id", "choice_id", name="uq_round_pairs_round_id_choice_id"),
    )


def _metrics() -> None:
    op.create_table(
        "metrics",
        link_column("metrics", "round_id", "rounds"),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        *(sa.Column(name, sa.Float(53), nullable=True) for name in OUTCOMES + STEP),
        time_column("created_at"),
        sa.PrimaryKeyConstraint("round_id", "step", name="pk_metrics"),
    )


def _comparisons() -> None:
    op.create_table(
        "comparisons",
        id_column("id"),
        link_column("comparisons", "round_id", "rounds", nullable=True),
        link_column("comparisons", "adapter_id", "adapters", nullable=True),
        link_column("comparisons", "prompt_id", "prompts"),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        link_column("comparisons", "base_image_id", "images"),
        link_column("comparisons", "aligned_image_id", "images"),
        sa.Column("scale", sa.Float(53), nullable=False),
        number_column("position"),
        time_column("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_comparisons"),
        sa.UniqueConstraint("position", name="uq_comparisons_position"),
    )
    op.create_index("ix_comparisons_round_id", "comparisons", ["round_id"])


def _states() -> None:
    op.create_table(
        "model_states",
        sa.Column("model", sa.String(500), nullable=False),
        link_column("model_states", "adopted_round_id", "rounds", nullable=True),
        sa.PrimaryKeyConstraint("model", name="pk_model_states"),
    )
    op.create_table(
        "job_progress",
        sa.Column("job_id", sa.String(200), nullable=False),
        id_column("kind"),
        number_column("done"),
        number_column("total"),
        sa.Column("note", sa.Text(), nullable=False),
        time_column("updated_at"),
        sa.PrimaryKeyConstraint("job_id", name="pk_job_progress"),
    )
