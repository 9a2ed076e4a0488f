"""What can be measured, by one name each, and what one look at everything has found.

A number that a source does not tell has no entry: missing is not zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal

from shipway_agent.runtimes.spec import ContainerId


class Quantity(StrEnum):
    """One kind of number; the unit is in its name, and `counters` lists those that only grow."""

    CPU_SECONDS = "cpu_seconds"
    CPU_LIMIT = "cpu_limit_cores"
    MEMORY_TOTAL = "memory_total_bytes"
    MEMORY_USED = "memory_used_bytes"
    MEMORY_WORKING_SET = "memory_working_set_bytes"
    MEMORY_FREE = "memory_free_bytes"
    MEMORY_LIMIT = "memory_limit_bytes"
    DISK_READ_BYTES = "disk_read_bytes"
    DISK_WRITTEN_BYTES = "disk_written_bytes"
    DISK_READS = "disk_reads"
    DISK_WRITES = "disk_writes"
    NETWORK_RECEIVED = "network_received_bytes"
    NETWORK_SENT = "network_sent_bytes"
    FILESYSTEM_SIZE = "filesystem_size_bytes"
    FILESYSTEM_FREE = "filesystem_free_bytes"
    UTILIZATION = "utilization_ratio"
    TEMPERATURE = "temperature_celsius"
    POWER = "power_watts"


counters = frozenset(
    {
        Quantity.CPU_SECONDS,
        Quantity.DISK_READ_BYTES,
        Quantity.DISK_WRITTEN_BYTES,
        Quantity.DISK_READS,
        Quantity.DISK_WRITES,
        Quantity.NETWORK_RECEIVED,
        Quantity.NETWORK_SENT,
    }
)

Numbers = Mapping[Quantity, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerUsage:
    """One container's own use, and how much it may have."""

    source: Literal["cgroup", "processes"]
    """Who counted. Processes have their resident memory added up, what they share once for each."""
    started_at: float
    """When its first process began, in seconds since 1970."""
    numbers: Numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeUsage:
    """The whole machine."""

    cpus: int = 0
    """Processors that are on line; 0 if that is not told."""
    cpu_seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    """Of all processors together, by what they did: user, system, idle, …"""
    memory: Numbers = field(default_factory=dict[Quantity, float])
    disks: Mapping[str, Numbers] = field(default_factory=dict[str, Numbers])
    """By device: those that are not made of others."""
    networks: Mapping[str, Numbers] = field(default_factory=dict[str, Numbers])
    """By interface."""
    filesystems: Mapping[str, Numbers] = field(default_factory=dict[str, Numbers])
    """By path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUsage:
    """One GPU, or one MIG instance."""

    index: int
    """The driver's, of the whole GPU; not its identity."""
    uuid: str
    name: str
    parent_uuid: str | None
    """The whole GPU, for an instance."""
    numbers: Numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One look at everything."""

    time: datetime
    clock_s: float
    """When, by the clock that does not go back."""
    took_s: float
    node: NodeUsage
    containers: Mapping[ContainerId, ContainerUsage]
    gpus: tuple[GpuUsage, ...]
    """Those that answered."""
