"""Checkpoints of trials."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision: str | None = "0009"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Make the tables of checkpoints, of where they are, and of what is to remove them."""
    op.create_table(
        "storages",
        sa.Column("id", sa.Integer, autoincrement=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("owner_id", sa.Integer, nullable=False),
        sa.Column("config", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_storages"),
        sa.UniqueConstraint("digest", name="uq_storages_digest"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="fk_storages_owner_id_users"),
    )
    op.create_table(
        "checkpoints",
        sa.Column("id", sa.Integer, autoincrement=True),
        sa.Column("uuid", sa.String(36), nullable=False),
        sa.Column("task_id", sa.String, nullable=False),
        sa.Column("allocation_id", sa.String),
        sa.Column("trial_id", sa.Integer, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("reported_at", sa.BigInteger, nullable=False),
        sa.Column("resources", sa.JSON, nullable=False),
        sa.Column("meta", sa.JSON, nullable=False),
        sa.Column("steps_completed", sa.BigInteger, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("storage_id", sa.Integer),
        sa.PrimaryKeyConstraint("id", name="pk_checkpoints"),
        sa.UniqueConstraint("uuid", name="uq_checkpoints_uuid"),
        sa.ForeignKeyConstraint(
            ["trial_id"],
            ["trials.id"],
            name="fk_checkpoints_trial_id_trials",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["storage_id"], ["storages.id"], name="fk_checkpoints_storage_id_storages"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_checkpoints_trial_state", "checkpoints", ["trial_id", "state"])
    op.create_table(
        "collections",
        sa.Column("task_id", sa.String),
        sa.Column("experiment_id", sa.Integer, nullable=False),
        sa.Column("storage", sa.Text, nullable=False),
        sa.Column("uuids", sa.JSON, nullable=False),
        sa.Column("globs", sa.JSON, nullable=False),
        sa.Column("with_tensorboards", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("task_id", name="pk_collections"),
    )
