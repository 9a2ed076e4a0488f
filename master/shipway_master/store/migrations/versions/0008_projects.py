"""What workspaces and projects say, and which pools they have."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision: str | None = "0007"
branch_labels: str | None = None
depends_on: str | None = None

_EMPTY = sa.text("''")


def upgrade() -> None:
    """Complete what is there, and create the tables of pins, bindings and visits."""
    _complete_workspaces()
    _complete_projects()
    _create_links()


def _complete_workspaces() -> None:
    for column in (
        sa.Column("folded_name", sa.String, nullable=False, server_default=_EMPTY),
        sa.Column("deletion", sa.String, nullable=False, server_default=_EMPTY),
        sa.Column("error_message", sa.Text, nullable=False, server_default=_EMPTY),
        sa.Column("agent_uid", sa.Integer),
        sa.Column("agent_gid", sa.Integer),
        sa.Column("agent_user", sa.String),
        sa.Column("agent_group", sa.String),
        sa.Column("checkpoint_storage", sa.Text),
        sa.Column("default_compute_pool", sa.String, nullable=False, server_default=_EMPTY),
        sa.Column("default_aux_pool", sa.String, nullable=False, server_default=_EMPTY),
    ):
        op.add_column("workspaces", column)
    table = sa.table("workspaces", sa.column("id"), sa.column("name"), sa.column("folded_name"))
    for workspace_id, name in op.get_bind().execute(sa.select(table.c.id, table.c.name)).all():
        changes = sa.update(table).where(table.c.id == workspace_id)
        op.execute(changes.values(folded_name=name.casefold()))
    op.create_index("ix_workspaces_folded_name", "workspaces", ["folded_name"], unique=True)


def _complete_projects() -> None:
    for column in (
        sa.Column("folded_name", sa.String, nullable=False, server_default=_EMPTY),
        sa.Column("key", sa.String, nullable=False, server_default=_EMPTY),
        sa.Column("description", sa.Text, nullable=False, server_default=_EMPTY),
        sa.Column("notes", sa.JSON, nullable=False, server_default=sa.text("'[]'")),
        sa.Column("deletion", sa.String, nullable=False, server_default=_EMPTY),
        sa.Column("error_message", sa.Text, nullable=False, server_default=_EMPTY),
    ):
        op.add_column("projects", column)
    table = sa.table(
        "projects", sa.column("id"), sa.column("name"), sa.column("folded_name"), sa.column("key")
    )
    for project_id, name in op.get_bind().execute(sa.select(table.c.id, table.c.name)).all():
        letters = "".join(one for one in name.upper() if one.isascii() and one.isalnum())
        op.execute(
            sa.update(table)
            .where(table.c.id == project_id)
            .values(folded_name=name.casefold(), key=f"{letters[:3]}{project_id}")
        )
    op.create_index(
        "ix_projects_folded_name", "projects", ["workspace_id", "folded_name"], unique=True
    )
    op.create_index("ix_projects_key", "projects", ["key"], unique=True)


def _create_links() -> None:
    for name, other, extra in (
        ("workspace_pins", "workspace", "pinned_at"),
        ("project_visits", "project", "visited_at"),
    ):
        op.create_table(
            name,
            sa.Column("user_id", sa.Integer),
            sa.Column(f"{other}_id", sa.Integer),
            sa.Column(extra, sa.BigInteger, nullable=False),
            sa.PrimaryKeyConstraint("user_id", f"{other}_id", name=f"pk_{name}"),
            sa.ForeignKeyConstraint(
                ["user_id"], ["users.id"], name=f"fk_{name}_user_id_users", ondelete="CASCADE"
            ),
            sa.ForeignKeyConstraint(
                [f"{other}_id"],
                [f"{other}s.id"],
                name=f"fk_{name}_{other}_id_{other}s",
                ondelete="CASCADE",
            ),
        )
    op.create_table(
        "pool_bindings",
        sa.Column("pool", sa.String),
        sa.Column("workspace_id", sa.Integer),
        sa.PrimaryKeyConstraint("pool", "workspace_id", name="pk_pool_bindings"),
        sa.ForeignKeyConstraint(
            ["workspace_id"],
            ["workspaces.id"],
            name="fk_pool_bindings_workspace_id_workspaces",
            ondelete="CASCADE",
        ),
    )
