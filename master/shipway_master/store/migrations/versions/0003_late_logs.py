"""When the allocation of a token ended, so that its last lines are still taken for a while."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Let a token outlive its allocation."""
    op.add_column("allocation_tokens", sa.Column("ended_at", sa.BigInteger))
