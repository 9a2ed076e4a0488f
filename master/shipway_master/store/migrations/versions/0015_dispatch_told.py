"""What the log of a task has been told of its Slurm job, so that a restart does not tell it again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision: str | None = "0014"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Keep it from now on; of jobs that are there it is not known."""
    op.add_column("dispatches", sa.Column("job_id", sa.String))
    op.add_column("dispatches", sa.Column("reason", sa.String))
