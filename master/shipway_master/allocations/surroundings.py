"""What an allocation depends on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.struct_pb2 import Struct

from shipway_master.allocations.exits import Outcome
from shipway_master.allocations.gather import Gathers
from shipway_master.allocations.records import AllocationRecord, AllocationRecords
from shipway_master.background import Background
from shipway_master.cluster.manager import Request, ResourceManager
from shipway_master.tasks.launch import Launch
from shipway_proto.determined.api.v1.trial_pb2 import AllocationAllGatherResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """How patient an allocation is, in seconds."""

    kill_quiet_s: float = 15.0
    """A kill this soon after another one changes nothing."""
    kill_again_s: float = 30.0
    """A kill is repeated until everything is gone."""
    preemption_s: float = 3600.0
    """Time to leave after a preemption, unless the task's configuration says otherwise."""
    slow_meeting_s: float = 600.0
    """After this a rendezvous or all-gather that does not complete is called slow."""


class Run(Protocol):
    """An allocation, as those see it who know what to start and what follows its end."""

    record: AllocationRecord
    request: Request
    manager: ResourceManager

    async def say(self, text: str, *, is_error: bool = False) -> None:
        """Write a line into the task's log."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What an allocation depends on."""

    records: AllocationRecords
    gathers: Gathers[Struct, AllocationAllGatherResponse]
    timers: Background
    timings: Timings
    write_log: Callable[[Run, str, bool], Awaitable[None]]
    build_launch: Callable[[Run], Awaitable[Launch]]
    end: Callable[[Run, Outcome], Awaitable[None]]
    """Told once, after everything of the allocation has been closed."""
