"""The port and the keys of a task that serves people."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Let tasks have a service; those that are there have none."""
    op.add_column("tasks", sa.Column("service_port", sa.Integer))
    op.add_column("tasks", sa.Column("service_secret", sa.Text))
    op.add_column("tasks", sa.Column("service_public_key", sa.Text))
