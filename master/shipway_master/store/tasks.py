"""Tasks, their allocations, and the resources that these have."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from shipway_master.store.base import Base, UtcTime


class TaskRow(Base):
    """Something a user started."""

    __tablename__ = "tasks"

    task_id: Mapped[str] = mapped_column(String, primary_key=True)
    task_type: Mapped[str] = mapped_column(index=True)
    """As the API calls it, without its prefix."""
    job_id: Mapped[str] = mapped_column(String, index=True)
    """Several tasks may be one job: the trials of an experiment are."""
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    workspace_id: Mapped[int]
    description: Mapped[str]
    config: Mapped[str] = mapped_column(Text)
    """JSON, defaults applied, secrets included."""
    resource_pool: Mapped[str]
    manager: Mapped[str]
    """Name of the resource manager that has the pool."""
    slots: Mapped[int]
    priority: Mapped[int]
    state: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(UtcTime, index=True)
    ended_at: Mapped[datetime | None] = mapped_column(UtcTime, index=True)
    exit_status: Mapped[str] = mapped_column(default="")
    parent_id: Mapped[str | None] = mapped_column(index=True)
    forked_from: Mapped[str | None]
    no_pause: Mapped[bool] = mapped_column(default=False)
    first_run: Mapped[int] = mapped_column(default=1, server_default="1")
    """The number of its first run; a trial that goes on by a new task counts on."""
    service_port: Mapped[int | None]
    """Set for tasks that serve people."""
    service_secret: Mapped[str | None] = mapped_column(Text)
    service_public_key: Mapped[str | None] = mapped_column(Text)


class TaskFilesRow(Base):
    """The files of a task, apart from it because they may be big."""

    __tablename__ = "task_files"

    task_id: Mapped[str] = mapped_column(
        ForeignKey("tasks.task_id", ondelete="CASCADE"), primary_key=True
    )
    tgz: Mapped[bytes] = mapped_column(LargeBinary)


class AllocationRow(Base):
    """One run of a task."""

    __tablename__ = "allocations"

    allocation_id: Mapped[str] = mapped_column(String, primary_key=True)
    task_id: Mapped[str] = mapped_column(
        ForeignKey("tasks.task_id", ondelete="CASCADE"), index=True
    )
    run: Mapped[int]
    slots: Mapped[int]
    state: Mapped[str]
    is_ready: Mapped[bool] = mapped_column(default=False)
    requested_at: Mapped[datetime] = mapped_column(UtcTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcTime, index=True)
    exit_reason: Mapped[str | None]
    status_code: Mapped[int | None]
    preemption_cause: Mapped[str | None]
    preempted_at: Mapped[datetime | None] = mapped_column(UtcTime)
    preemption_acked: Mapped[bool] = mapped_column(default=False)
    kill_reason: Mapped[str | None]
    proxy_address: Mapped[str | None]


class ResourcesRow(Base):
    """One container on an agent, or one Slurm job."""

    __tablename__ = "resources"

    resources_id: Mapped[str] = mapped_column(String, primary_key=True)
    allocation_id: Mapped[str] = mapped_column(
        ForeignKey("allocations.allocation_id", ondelete="CASCADE"), index=True
    )
    number: Mapped[int]
    agent_id: Mapped[str | None]
    slots: Mapped[int]
    devices: Mapped[list[Any]] = mapped_column(JSON)
    state: Mapped[str]
    addresses: Mapped[list[Any]] = mapped_column(JSON)
    native_id: Mapped[str] = mapped_column(default="")
    is_daemon: Mapped[bool] = mapped_column(default=False)
    is_exited: Mapped[bool] = mapped_column(default=False)
    failure: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class RankRow(Base):
    """A rank that has said that its container runs."""

    __tablename__ = "allocation_ranks"

    allocation_id: Mapped[str] = mapped_column(
        ForeignKey("allocations.allocation_id", ondelete="CASCADE"), primary_key=True
    )
    rank: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    num_peers: Mapped[int]
    node_name: Mapped[str]


class AcceleratorRow(Base):
    """The accelerators that one container found."""

    __tablename__ = "allocation_accelerators"

    allocation_id: Mapped[str] = mapped_column(
        ForeignKey("allocations.allocation_id", ondelete="CASCADE"), primary_key=True
    )
    container_id: Mapped[str] = mapped_column(String, primary_key=True)
    task_id: Mapped[str] = mapped_column(index=True)
    node_name: Mapped[str]
    accelerator_type: Mapped[str]
    uuids: Mapped[list[str]] = mapped_column(JSON)
