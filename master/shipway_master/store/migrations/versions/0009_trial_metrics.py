"""Metrics that trials report, and the checkpoints that they use."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision: str | None = "0008"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "trial_metrics",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column(
            "trial_id", sa.Integer, sa.ForeignKey("trials.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("group", sa.String, nullable=False),
        sa.Column("steps", sa.Integer),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("reported_at", sa.BigInteger, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("batch_metrics", sa.JSON),
        sa.Column("archived", sa.Boolean, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_trial_metrics_step",
        "trial_metrics",
        ["trial_id", "group", "steps", "run"],
        unique=True,
    )
    op.create_table(
        "trial_sources",
        sa.Column(
            "trial_id",
            sa.Integer,
            sa.ForeignKey("trials.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("checkpoint_uuid", sa.String, primary_key=True, index=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("model_id", sa.Integer),
        sa.Column("model_version", sa.Integer),
    )
