"""Policies of workspaces and of the cluster."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision: str | None = "0012"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "config_policies",
        sa.Column("workspace_id", sa.Integer, autoincrement=False),
        sa.Column("workload", sa.String),
        sa.Column("invariant_config", sa.Text, nullable=False),
        sa.Column("constraints", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "workload", name="pk_config_policies"),
    )
