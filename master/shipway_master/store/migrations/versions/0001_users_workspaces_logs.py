"""Users and their tokens, the cluster's identity, workspaces, task logs, profiler readings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the first tables."""
    _create_users()
    _create_workspaces()
    _create_readings()


def _create_users() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Integer, autoincrement=True),
        sa.Column("username", sa.String, nullable=False),
        sa.Column("password_hash", sa.String),
        sa.Column("admin", sa.Boolean, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("remote", sa.Boolean, nullable=False),
        sa.Column("display_name", sa.String, nullable=False),
        sa.Column("modified_at", sa.BigInteger, nullable=False),
        sa.Column("last_auth_at", sa.BigInteger),
        sa.Column("agent_uid", sa.Integer),
        sa.Column("agent_gid", sa.Integer),
        sa.Column("agent_user", sa.String),
        sa.Column("agent_group", sa.String),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("username", name="uq_users_username"),
    )
    op.create_table(
        "user_sessions",
        sa.Column("id", sa.Integer, autoincrement=True),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_user_sessions"),
        sa.UniqueConstraint("token_hash", name="uq_user_sessions_token_hash"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_user_sessions_user_id_users", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_user_sessions_user_id", "user_sessions", ["user_id"])
    op.create_table(
        "allocation_tokens",
        sa.Column("token_hash", sa.String(64)),
        sa.Column("allocation_id", sa.String, nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name="pk_allocation_tokens"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_allocation_tokens_user_id_users", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_allocation_tokens_allocation_id", "allocation_tokens", ["allocation_id"])


def _create_workspaces() -> None:
    op.create_table(
        "cluster",
        sa.Column("id", sa.Integer, autoincrement=False),
        sa.Column("cluster_id", sa.String(36), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_cluster"),
    )
    op.create_table(
        "workspaces",
        sa.Column("id", sa.Integer, autoincrement=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("archived", sa.Boolean, nullable=False),
        sa.Column("immutable", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workspaces"),
        sa.UniqueConstraint("name", name="uq_workspaces_name"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_workspaces_user_id_users"),
    )
    op.create_table(
        "projects",
        sa.Column("id", sa.Integer, autoincrement=True),
        sa.Column("workspace_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("archived", sa.Boolean, nullable=False),
        sa.Column("immutable", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_projects"),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name="fk_projects_workspace_id_workspaces"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_projects_user_id_users"),
    )
    op.create_index("ix_projects_workspace_id", "projects", ["workspace_id"])


def _create_readings() -> None:
    op.create_table(
        "task_logs",
        sa.Column("id", _SEQUENCE, autoincrement=True),
        sa.Column("task_id", sa.String, nullable=False),
        sa.Column("allocation_id", sa.String),
        sa.Column("agent_id", sa.String),
        sa.Column("container_id", sa.String),
        sa.Column("rank_id", sa.Integer),
        sa.Column("timestamp_us", sa.BigInteger),
        sa.Column("level", sa.Integer),
        sa.Column("stdtype", sa.String),
        sa.Column("source", sa.String),
        sa.Column("log", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_task_logs"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_task_logs_task_id_id", "task_logs", ["task_id", "id"])
    op.create_table(
        "profiler_batches",
        sa.Column("id", _SEQUENCE, autoincrement=True),
        sa.Column("trial_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("agent_id", sa.String, nullable=False),
        sa.Column("gpu_uuid", sa.String, nullable=False),
        sa.Column("metric_type", sa.Integer, nullable=False),
        sa.Column("batch", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_profiler_batches"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_profiler_batches_trial_id_name_id", "profiler_batches", ["trial_id", "name", "id"]
    )
