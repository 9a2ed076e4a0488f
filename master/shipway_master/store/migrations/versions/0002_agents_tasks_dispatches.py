"""Agents, tasks with their allocations and resources, dispatches; offsets of log lines."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Create the tables of the cluster."""
    op.add_column("task_logs", sa.Column("end_offset", sa.BigInteger))
    _create_agents()
    _create_tasks()
    _create_allocations()
    _create_reports()


def _create_agents() -> None:
    op.create_table(
        "agents",
        sa.Column("agent_id", sa.String, nullable=False),
        sa.Column("resource_pool", sa.String, nullable=False),
        sa.Column("registered_at", sa.BigInteger, nullable=False),
        sa.Column("address", sa.String, nullable=False),
        sa.Column("version", sa.String, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("draining", sa.Boolean, nullable=False),
        sa.Column("slots", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("agent_id", name="pk_agents"),
    )
    op.create_table(
        "dispatches",
        sa.Column("dispatch_id", sa.String, nullable=False),
        sa.Column("manager", sa.String, nullable=False),
        sa.Column("resources_id", sa.String, nullable=False),
        sa.Column("resource_pool", sa.String, nullable=False),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("payload", sa.String, nullable=False),
        sa.Column("phase", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("dispatch_id", name="pk_dispatches"),
    )


def _create_tasks() -> None:
    op.create_table(
        "tasks",
        sa.Column("task_id", sa.String, nullable=False),
        sa.Column("task_type", sa.String, nullable=False),
        sa.Column("job_id", sa.String, nullable=False),
        sa.Column("owner_id", sa.Integer, nullable=False),
        sa.Column("workspace_id", sa.Integer, nullable=False),
        sa.Column("description", sa.String, nullable=False),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("resource_pool", sa.String, nullable=False),
        sa.Column("manager", sa.String, nullable=False),
        sa.Column("slots", sa.Integer, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("exit_status", sa.String, nullable=False),
        sa.Column("parent_id", sa.String),
        sa.Column("forked_from", sa.String),
        sa.Column("no_pause", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("task_id", name="pk_tasks"),
        sa.UniqueConstraint("job_id", name="uq_tasks_job_id"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="fk_tasks_owner_id_users"),
    )
    for column in ("task_type", "started_at", "ended_at", "parent_id"):
        op.create_index(f"ix_tasks_{column}", "tasks", [column])
    op.create_table(
        "task_files",
        sa.Column("task_id", sa.String, nullable=False),
        sa.Column("tgz", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("task_id", name="pk_task_files"),
        sa.ForeignKeyConstraint(
            ["task_id"], ["tasks.task_id"], name="fk_task_files_task_id_tasks", ondelete="CASCADE"
        ),
    )


def _create_allocations() -> None:
    op.create_table(
        "allocations",
        sa.Column("allocation_id", sa.String, nullable=False),
        sa.Column("task_id", sa.String, nullable=False),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("slots", sa.Integer, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("is_ready", sa.Boolean, nullable=False),
        sa.Column("requested_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("exit_reason", sa.String),
        sa.Column("status_code", sa.Integer),
        sa.Column("preemption_cause", sa.String),
        sa.Column("preempted_at", sa.BigInteger),
        sa.Column("preemption_acked", sa.Boolean, nullable=False),
        sa.Column("kill_reason", sa.String),
        sa.Column("proxy_address", sa.String),
        sa.PrimaryKeyConstraint("allocation_id", name="pk_allocations"),
        sa.ForeignKeyConstraint(
            ["task_id"], ["tasks.task_id"], name="fk_allocations_task_id_tasks", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_allocations_task_id", "allocations", ["task_id"])
    op.create_index("ix_allocations_ended_at", "allocations", ["ended_at"])
    op.create_table(
        "resources",
        sa.Column("resources_id", sa.String, nullable=False),
        sa.Column("allocation_id", sa.String, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("agent_id", sa.String),
        sa.Column("slots", sa.Integer, nullable=False),
        sa.Column("devices", sa.JSON, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("addresses", sa.JSON, nullable=False),
        sa.Column("native_id", sa.String, nullable=False),
        sa.Column("is_daemon", sa.Boolean, nullable=False),
        sa.Column("is_exited", sa.Boolean, nullable=False),
        sa.Column("failure", sa.JSON),
        sa.PrimaryKeyConstraint("resources_id", name="pk_resources"),
        _allocation_key("resources"),
    )
    op.create_index("ix_resources_allocation_id", "resources", ["allocation_id"])


def _create_reports() -> None:
    op.create_table(
        "allocation_ranks",
        sa.Column("allocation_id", sa.String, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("num_peers", sa.Integer, nullable=False),
        sa.Column("node_name", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("allocation_id", "rank", name="pk_allocation_ranks"),
        _allocation_key("allocation_ranks"),
    )
    op.create_table(
        "allocation_accelerators",
        sa.Column("allocation_id", sa.String, nullable=False),
        sa.Column("container_id", sa.String, nullable=False),
        sa.Column("task_id", sa.String, nullable=False),
        sa.Column("node_name", sa.String, nullable=False),
        sa.Column("accelerator_type", sa.String, nullable=False),
        sa.Column("uuids", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("allocation_id", "container_id", name="pk_allocation_accelerators"),
        _allocation_key("allocation_accelerators"),
    )
    op.create_index("ix_allocation_accelerators_task_id", "allocation_accelerators", ["task_id"])


def _allocation_key(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["allocation_id"],
        ["allocations.allocation_id"],
        name=f"fk_{table}_allocation_id_allocations",
        ondelete="CASCADE",
    )
