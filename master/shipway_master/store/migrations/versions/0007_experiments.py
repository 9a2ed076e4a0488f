"""Experiments and trials."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision: str | None = "0006"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Make the tables, and let several tasks be one job."""
    with op.batch_alter_table("tasks") as tasks:
        tasks.drop_constraint("uq_tasks_job_id", type_="unique")
        tasks.create_index("ix_tasks_job_id", ["job_id"])
        tasks.add_column(sa.Column("first_run", sa.Integer, nullable=False, server_default="1"))
    op.create_table(
        "experiments",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("job_id", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False, index=True),
        sa.Column("owner_id", sa.Integer, sa.ForeignKey("users.id"), nullable=False),
        sa.Column(
            "project_id", sa.Integer, sa.ForeignKey("projects.id"), nullable=False, index=True
        ),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("notes", sa.Text, nullable=False),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("original_config", sa.Text, nullable=False),
        sa.Column("resource_pool", sa.String, nullable=False),
        sa.Column("manager", sa.String, nullable=False),
        sa.Column("slots_per_trial", sa.Integer, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("archived", sa.Boolean, nullable=False),
        sa.Column("unmanaged", sa.Boolean, nullable=False),
        sa.Column("external_id", sa.String),
        sa.Column("parent_id", sa.Integer),
        sa.Column("started_at", sa.BigInteger, nullable=False, index=True),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("progress", sa.Double),
        sa.Column("log_retention_days", sa.Integer),
        sa.Column("best_trial_id", sa.Integer),
        sa.Column("is_continued", sa.Boolean, nullable=False),
        sa.Column("search", sa.Text),
        sa.UniqueConstraint("job_id", name="uq_experiments_job_id"),
        sa.UniqueConstraint("external_id", name="uq_experiments_external_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "experiment_files",
        sa.Column(
            "experiment_id",
            sa.Integer,
            sa.ForeignKey("experiments.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("tgz", sa.LargeBinary, nullable=False),
        sa.Column("private_key", sa.Text, nullable=False),
        sa.Column("public_key", sa.Text, nullable=False),
    )
    op.create_table(
        "trials",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column(
            "experiment_id",
            sa.Integer,
            sa.ForeignKey("experiments.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column(
            "project_id", sa.Integer, sa.ForeignKey("projects.id"), nullable=False, index=True
        ),
        sa.Column("request_id", sa.String),
        sa.Column("external_id", sa.String),
        sa.Column("state", sa.String, nullable=False, index=True),
        sa.Column("hparams", sa.JSON, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("judged_run", sa.Integer, nullable=False),
        sa.Column("restarts", sa.Integer, nullable=False),
        sa.Column("ports", sa.JSON, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("last_activity_at", sa.BigInteger),
        sa.Column("runner_state", sa.String, nullable=False),
        sa.Column("progress", sa.Double),
        sa.Column("early_exit", sa.String),
        sa.Column("source_checkpoint", sa.String),
        sa.Column("excluded_nodes", sa.JSON, nullable=False),
        sa.Column("are_retries_canceled", sa.Boolean, nullable=False),
        sa.Column("log_signal", sa.String),
        sa.Column("log_retention_days", sa.Integer),
        sa.Column("archived", sa.Boolean, nullable=False),
        sa.Column("run_metadata", sa.JSON),
        sa.Column("total_batches", sa.Integer, nullable=False),
        sa.Column("best_validation_id", sa.BigInteger),
        sa.Column("latest_validation_id", sa.BigInteger),
        sa.Column("searcher_metric", sa.Double),
        sa.Column("summary_metrics", sa.JSON, nullable=False),
        sa.Column("checkpoint_count", sa.Integer, nullable=False),
        sa.Column("checkpoint_bytes", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_trials_request", "trials", ["experiment_id", "request_id"], unique=True)
    op.create_index("ix_trials_external", "trials", ["experiment_id", "external_id"], unique=True)
    op.create_table(
        "trial_tasks",
        sa.Column("task_id", sa.String, primary_key=True),
        sa.Column(
            "trial_id",
            sa.Integer,
            sa.ForeignKey("trials.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("number", sa.Integer, nullable=False),
    )
