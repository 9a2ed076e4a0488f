"""Experiments, their trials, and what both are made of."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from shipway_master.store.base import Base, UtcTime


class ExperimentRow(Base):
    """A search over trials; its id is never given twice, even after it was deleted."""

    __tablename__ = "experiments"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(String, unique=True)
    state: Mapped[str] = mapped_column(index=True)
    """As the API calls it, without its prefix; of a live one never more than ACTIVE."""
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), index=True)
    name: Mapped[str]
    description: Mapped[str] = mapped_column(Text, default="")
    labels: Mapped[list[str]] = mapped_column(JSON)
    notes: Mapped[str] = mapped_column(Text, default="")
    config: Mapped[str] = mapped_column(Text)
    """JSON, defaults applied, secrets included."""
    original_config: Mapped[str] = mapped_column(Text)
    """As the user sent it."""
    resource_pool: Mapped[str]
    manager: Mapped[str]
    """Name of the resource manager that has the pool."""
    slots_per_trial: Mapped[int]
    priority: Mapped[int]
    seed: Mapped[int] = mapped_column(BigInteger)
    archived: Mapped[bool] = mapped_column(default=False)
    unmanaged: Mapped[bool] = mapped_column(default=False)
    external_id: Mapped[str | None] = mapped_column(unique=True)
    parent_id: Mapped[int | None]
    started_at: Mapped[datetime] = mapped_column(UtcTime, index=True)
    ended_at: Mapped[datetime | None] = mapped_column(UtcTime)
    progress: Mapped[float | None] = mapped_column(Double)
    log_retention_days: Mapped[int | None]
    best_trial_id: Mapped[int | None]
    is_continued: Mapped[bool] = mapped_column(default=False)
    """It goes on with the trials that it has, and asks no searcher."""
    search: Mapped[str | None] = mapped_column(Text)
    """JSON: what the searcher knows, after the last event that it heard of."""


class ExperimentFilesRow(Base):
    """The model definition of an experiment, and the keys its trials reach each other with."""

    __tablename__ = "experiment_files"

    experiment_id: Mapped[int] = mapped_column(
        ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True
    )
    tgz: Mapped[bytes] = mapped_column(LargeBinary)
    """Empty where there is none."""
    private_key: Mapped[str] = mapped_column(Text)
    public_key: Mapped[str] = mapped_column(Text)


class TrialRow(Base):
    """One training of a model; the API calls it a run, too."""

    __tablename__ = "trials"
    __table_args__ = (
        Index("ix_trials_request", "experiment_id", "request_id", unique=True),
        Index("ix_trials_external", "experiment_id", "external_id", unique=True),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"))
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), index=True)
    request_id: Mapped[str | None]
    """UUID by which the searcher knows it; none for an unmanaged one."""
    external_id: Mapped[str | None]
    state: Mapped[str] = mapped_column(index=True)
    hparams: Mapped[dict[str, Any]] = mapped_column(JSON)
    seed: Mapped[int] = mapped_column(BigInteger)
    run: Mapped[int] = mapped_column(default=0)
    """The number of its newest run, stored before that begins."""
    judged_run: Mapped[int] = mapped_column(default=0)
    """The newest run whose end has been taken into account."""
    restarts: Mapped[int] = mapped_column(default=0)
    ports: Mapped[list[int]] = mapped_column(JSON)
    """Those that its live run has; empty when it has none."""
    started_at: Mapped[datetime] = mapped_column(UtcTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcTime)
    last_activity_at: Mapped[datetime | None] = mapped_column(UtcTime)
    """When an unmanaged one was last heard of."""
    runner_state: Mapped[str] = mapped_column(default="")
    progress: Mapped[float | None] = mapped_column(Double)
    early_exit: Mapped[str | None]
    """The reason that it reported."""
    source_checkpoint: Mapped[str | None]
    """UUID of the checkpoint that it began with."""
    excluded_nodes: Mapped[list[str]] = mapped_column(JSON)
    are_retries_canceled: Mapped[bool] = mapped_column(default=False)
    """A line of its log says that it need not be started again."""
    log_signal: Mapped[str | None]
    """Name of the log policy that matched last."""
    log_retention_days: Mapped[int | None]
    archived: Mapped[bool] = mapped_column(default=False)
    run_metadata: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    total_batches: Mapped[int] = mapped_column(default=0)
    """The most steps that any report of its named."""
    best_validation_id: Mapped[int | None] = mapped_column(BigInteger)
    latest_validation_id: Mapped[int | None] = mapped_column(BigInteger)
    searcher_metric: Mapped[float | None] = mapped_column(Double)
    """Value of the searcher's metric in its best validation."""
    summary_metrics: Mapped[dict[str, Any]] = mapped_column(JSON)
    """Per group and metric: count, sum, min, max, mean, last, type."""
    checkpoint_count: Mapped[int] = mapped_column(default=0)
    checkpoint_bytes: Mapped[int] = mapped_column(BigInteger, default=0)


class TrialTaskRow(Base):
    """The tasks of a trial: one, and one more each time it was continued."""

    __tablename__ = "trial_tasks"

    task_id: Mapped[str] = mapped_column(String, primary_key=True)
    trial_id: Mapped[int] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"), index=True)
    number: Mapped[int]
