"""What Slurm says about jobs, nodes and partitions, in our own words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NewType

from shipway_launcher.slurm.gres import Gpus
from shipway_launcher.slurm.states import JobState

SlurmJobId = NewType("SlurmJobId", str)
"""An id as Slurm prints it; never a number, as parts of arrays and of other jobs have shapes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitStatus:
    """How a job's script ended."""

    code: int
    signal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One job of anybody; None stands for what was not said or not understood."""

    id: SlurmJobId
    shown_id: str
    """The id that people see: of a part of an array or of a heterogeneous job, `12_3` or `12+1`."""
    state: JobState
    reason: str
    name: str
    user: str
    partition: str
    comment: str
    nodes: str
    submitted_at: datetime | None
    preempted_at: datetime | None
    cpus: int | None
    gpus: int | None
    restarts: int
    exit: WaitStatus | None
    starts_at: datetime | None = None
    """When it started; while it waits, when Slurm expects it to."""
    ends_at: datetime | None = None
    """When it ended; while it runs, when its time is up."""
    time_limit_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """One node."""

    name: str
    partitions: tuple[str, ...]
    address: str
    is_in_service: bool
    is_draining: bool
    is_allocated: bool
    cpus: int
    cpus_in_use: int
    gpus: Gpus
    gpus_in_use: Gpus


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionRow:
    """One partition, in the order of Slurm's configuration."""

    name: str
    is_default: bool
    total_nodes: int
    max_nodes: int | None
    """None: no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRows:
    """All partitions and nodes at one moment."""

    partitions: tuple[PartitionRow, ...]
    nodes: tuple[NodeRow, ...]
