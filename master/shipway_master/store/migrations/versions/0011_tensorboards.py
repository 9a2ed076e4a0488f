"""What TensorBoards show."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision: str | None = "0010"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Make the table of what they show."""
    op.create_table(
        "tensorboards",
        sa.Column("task_id", sa.String, nullable=False),
        sa.Column("experiment_ids", sa.JSON, nullable=False),
        sa.Column("trial_ids", sa.JSON, nullable=False),
        sa.Column("folders", sa.JSON, nullable=False),
        sa.Column("storage", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("task_id", name="pk_tensorboards"),
    )
