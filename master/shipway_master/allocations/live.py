"""All allocations that have not ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Self

from google.protobuf.struct_pb2 import Struct

from shipway_common.backoff import backoff_delays_s
from shipway_master.allocations.allocation import Allocation
from shipway_master.allocations.errors import AllocationNotFound
from shipway_master.allocations.exits import Outcome
from shipway_master.allocations.gather import Gathers
from shipway_master.allocations.ids import AllocationId, parse_allocation_id
from shipway_master.allocations.records import AllocationRecord, AllocationRecords
from shipway_master.allocations.surroundings import Run, Surroundings, Timings
from shipway_master.auth import Authenticator
from shipway_master.background import Background
from shipway_master.cluster.manager import Request, ResourceManager
from shipway_master.errors import Unavailable
from shipway_master.logbook import LogBook, LogLine
from shipway_master.store.database import Database
from shipway_master.tasks.launch import Launch
from shipway_proto.determined.api.v1.trial_pb2 import AllocationAllGatherResponse
from shipway_proto.determined.log.v1.log_pb2 import LOG_LEVEL_ERROR, LOG_LEVEL_INFO

log = logging.getLogger(__name__)

BuildLaunch = Callable[[Run], Awaitable[Launch]]
OnEnd = Callable[[Run, Outcome], Awaitable[None]]


class Allocations:
    """The set of live allocations; entered, it owns their timers."""

    def __init__(
        self,
        database: Database,
        logbook: LogBook,
        authenticator: Authenticator,
        *,
        timings: Timings,
    ) -> None:
        self.records = AllocationRecords(database)
        self._logbook = logbook
        self._authenticator = authenticator
        self._timings = timings
        self._timers = Background()
        self._stack = AsyncExitStack()
        self._live: dict[AllocationId, Allocation] = {}
        self._build_launch: BuildLaunch | None = None
        self._on_end: OnEnd | None = None
        self._gathers: Gathers[Struct, AllocationAllGatherResponse] = Gathers(
            rank_of=find_rank,
            combine=lambda data: AllocationAllGatherResponse(data=data),
            on_slow=self._gather_is_slow,
            warn_after_s=timings.slow_meeting_s,
        )

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._timers)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def connect(self, *, build_launch: BuildLaunch, on_end: OnEnd) -> None:
        """Say who knows what to start, and who is told of the end of an allocation."""
        self._build_launch, self._on_end = build_launch, on_end

    def adopt(
        self,
        record: AllocationRecord,
        *,
        request: Request,
        manager: ResourceManager,
        name: str,
        preemption_s: float | None,
    ) -> Allocation:
        """Make a stored allocation a live one; `schedule` or `restore` it next."""
        if self._build_launch is None:
            raise RuntimeError("nobody knows what to start")
        allocation = Allocation(
            record,
            request=request,
            manager=manager,
            name=name,
            preemption_s=preemption_s,
            surroundings=Surroundings(
                records=self.records,
                gathers=self._gathers,
                timers=self._timers,
                timings=self._timings,
                write_log=self._write_log,
                build_launch=self._build_launch,
                end=self._end,
            ),
        )
        self._live[allocation.id] = allocation
        return allocation

    def find(self, allocation_id: str) -> Allocation | None:
        """The live allocation of that id.

        Raises:
            MalformedAllocationId: The text cannot be one.
        """
        return self._live.get(parse_allocation_id(allocation_id))

    def get(self, allocation_id: str) -> Allocation:
        """The live allocation of that id.

        Raises:
            MalformedAllocationId: The text cannot be one.
            AllocationNotFound: It has ended, or there never was one.
        """
        allocation = self.find(allocation_id)
        if allocation is None:
            raise AllocationNotFound(allocation_id)
        return allocation

    @property
    def all(self) -> list[Allocation]:
        """All live allocations, oldest first."""
        return list(self._live.values())

    async def _end(self, allocation: Run, outcome: Outcome) -> None:
        self._live.pop(allocation.record.allocation_id, None)
        await self._end_tokens(allocation.record.allocation_id)
        if self._on_end is not None:
            await self._on_end(allocation, outcome)

    async def _end_tokens(self, allocation_id: AllocationId) -> None:
        """Take the rights of an ended allocation; a full disk is waited for."""
        for delay_s in backoff_delays_s(limit_s=10.0):
            try:
                await self._authenticator.end_allocation_tokens(allocation_id)
                return
            except Unavailable as error:
                log.error(
                    "the tokens of an allocation cannot be ended; trying again",
                    extra={"allocation_id": allocation_id, "error": str(error)},
                )
                await asyncio.sleep(delay_s)

    async def _write_log(self, allocation: Run, text: str, is_error: bool) -> None:
        line = LogLine(
            task_id=allocation.request.task_id,
            allocation_id=allocation.record.allocation_id,
            text=text + "\n",
            level=LOG_LEVEL_ERROR if is_error else LOG_LEVEL_INFO,
            source="master",
            stdtype="stdout",
        )
        try:
            await self._logbook.append([line])
        except Unavailable as error:  # a line about the task is not worth the task
            log.warning(
                "a line for a task's log is lost",
                extra={
                    "allocation_id": allocation.record.allocation_id,
                    "line": text,
                    "error": str(error),
                },
            )

    async def _gather_is_slow(self, allocation_id: AllocationId, peers: int, wanted: int) -> None:
        allocation = self._live.get(allocation_id)
        if allocation is not None:
            await allocation.say(
                f"some ranks are taking a long time to connect: {peers} of {wanted} wait in the "
                "all-gather for the others"
            )


def find_rank(data: Struct) -> int | None:
    """The whole number `rank` in a peer's data, if it has one."""
    if "rank" not in data.fields:
        return None
    rank = data.fields["rank"]
    if rank.WhichOneof("kind") != "number_value" or not rank.number_value.is_integer():
        return None
    return int(rank.number_value)
