"""Access tokens, settings of users, templates, the message of the administrators."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "access_tokens",
        sa.Column("id", sa.Integer, autoincrement=True),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("is_revoked", sa.Boolean, nullable=False),
        sa.Column("description", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_access_tokens"),
        sa.UniqueConstraint("token_hash", name="uq_access_tokens_token_hash"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_access_tokens_user_id_users", ondelete="CASCADE"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_access_tokens_user_id", "access_tokens", ["user_id"])
    op.create_table(
        "user_settings",
        sa.Column("user_id", sa.Integer),
        sa.Column("storage_path", sa.String),
        sa.Column("key", sa.String),
        sa.Column("value", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "storage_path", "key", name="pk_user_settings"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_user_settings_user_id_users", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "templates",
        sa.Column("name", sa.String),
        sa.Column("workspace_id", sa.Integer, nullable=False),
        sa.Column("config", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_templates"),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name="fk_templates_workspace_id_workspaces"
        ),
    )
    op.create_index("ix_templates_workspace_id", "templates", ["workspace_id"])
    op.create_table(
        "cluster_message",
        sa.Column("id", sa.Integer, autoincrement=False),
        sa.Column("message", sa.String, nullable=False),
        sa.Column("starts_at", sa.BigInteger, nullable=False),
        sa.Column("ends_at", sa.BigInteger),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_cluster_message"),
    )
