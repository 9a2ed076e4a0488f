"""Requests as the schedulers see them, and what these decide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from shipway_master.agents.fitting import Placement, Want
from shipway_master.allocations.ids import AllocationId
from shipway_master.cluster.manager import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A request that has no resources yet."""

    allocation_id: AllocationId
    want: Want
    priority: int
    """1 to 99; a smaller number is served first."""
    submitted_at: datetime
    """When the job was submitted: a task that comes back keeps its place."""
    is_preemptible: bool = False
    group: str = ""
    """The job: what shares are fair between."""
    weight: float = 1.0
    max_slots: int | None = None
    """So many slots all requests of the job may have together."""

    @property
    def slots(self) -> int:
        """How many slots it needs."""
        return self.want.slots


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A request that has resources."""

    allocation_id: AllocationId
    placement: Placement
    priority: int
    submitted_at: datetime
    is_preemptible: bool
    is_leaving: bool
    """Already asked to leave, or being killed: its room is as good as free."""
    group: str = ""
    weight: float = 1.0

    @property
    def slots(self) -> int:
        """How many slots it has."""
        return sum(self.placement.values())


@dataclass(frozen=True, slots=True)
class Decisions:
    """What one pass decided."""

    start: dict[AllocationId, Placement] = field(default_factory=dict[AllocationId, Placement])
    preempt: list[AllocationId] = field(default_factory=list[AllocationId])


def queue_order(item: Waiting | Holding | Request) -> tuple[int, datetime, str]:
    """The sort key of the queue: priority, then time of submission."""
    return (item.priority, item.submitted_at, item.allocation_id)


def keep_within_limits(waiting: Sequence[Waiting], holding: Sequence[Holding]) -> list[Waiting]:
    """Leave out, the last of the queue first, what would give a job more slots than it may have."""
    used = Counter[str]()
    for holder in holding:
        used[holder.group] += holder.slots
    kept: list[Waiting] = []
    for item in sorted(waiting, key=queue_order):
        if item.max_slots is None or used[item.group] + item.slots <= item.max_slots:
            used[item.group] += item.slots
            kept.append(item)
    return kept
