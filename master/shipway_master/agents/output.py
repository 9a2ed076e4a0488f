"""Lines that agents send for the logs of tasks, each kept once."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import TypeVar

from sqlalchemy import select

from shipway_common.backoff import backoff_delays_s
from shipway_master.agents.messages import ContainerLog
from shipway_master.allocations.ids import AllocationId, ResourcesId, TaskId
from shipway_master.errors import Unavailable
from shipway_master.logbook import LogBook, LogLine
from shipway_master.store.base import microseconds
from shipway_master.store.database import Database
from shipway_master.store.tasks import AllocationRow, ResourcesRow
from shipway_proto.determined.log.v1.log_pb2 import LogLevel

log = logging.getLogger(__name__)

_REMEMBERED = 4096

_Owner = tuple[TaskId, AllocationId]
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class TaskOutput:
    """Takes the lines of all agents.

    An agent that counts the bytes of its containers' output may send lines again after it lost its
    connection or its process; what lies before the last stored line of a stream came twice.
    """

    def __init__(self, database: Database, logbook: LogBook) -> None:
        self._database = database
        self._logbook = logbook
        self._owners: OrderedDict[ResourcesId, _Owner] = OrderedDict()
        self._ends: OrderedDict[tuple[ResourcesId, str], int] = OrderedDict()

    async def append(self, messages: Sequence[ContainerLog]) -> None:
        """Store the lines and return when they are safe; a full disk is waited for."""
        lines: list[LogLine] = []
        ends: dict[tuple[ResourcesId, str], int] = {}
        for message in messages:
            owner = await self._find_owner(message.container_id)
            if owner is None:
                log.warning(
                    "a line of an unknown container was dropped",
                    extra={"container_id": message.container_id},
                )
                continue
            if message.end_offset is not None and message.stdtype is not None:
                stream = (message.container_id, message.stdtype)
                known = ends.get(stream)
                if known is None:
                    known = await self._find_end(owner[0], stream)
                if message.end_offset <= known:
                    continue
                ends[stream] = message.end_offset
            lines.append(_make_line(message, owner))
        await self._store(lines)
        for stream, end in ends.items():
            _remember(self._ends, stream, end)

    async def _store(self, lines: Sequence[LogLine]) -> None:
        for delay_s in backoff_delays_s(limit_s=10.0):
            try:
                await self._logbook.append(lines)
                return
            except Unavailable as error:
                log.error("task logs cannot be stored; trying again", extra={"error": str(error)})
                await asyncio.sleep(delay_s)

    async def _find_owner(self, container_id: ResourcesId) -> _Owner | None:
        if container_id in self._owners:
            return self._owners[container_id]
        statement = (
            select(AllocationRow.task_id, AllocationRow.allocation_id)
            .join(ResourcesRow, ResourcesRow.allocation_id == AllocationRow.allocation_id)
            .where(ResourcesRow.resources_id == container_id)
        )
        async with self._database.reading() as session:
            row = (await session.execute(statement)).one_or_none()
        owner = None if row is None else (TaskId(row[0]), AllocationId(row[1]))
        if owner is not None:
            _remember(self._owners, container_id, owner)
        return owner

    async def _find_end(self, task_id: TaskId, stream: tuple[ResourcesId, str]) -> int:
        if stream in self._ends:
            return self._ends[stream]
        end = await self._logbook.stream_end(task_id, *stream)
        return -1 if end is None else end


def _remember(memory: OrderedDict[Key, Value], key: Key, value: Value) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > _REMEMBERED:
        memory.popitem(last=False)


def _make_line(message: ContainerLog, owner: _Owner) -> LogLine:
    text = message.text if message.text.endswith("\n") else message.text + "\n"
    is_output = message.stdtype is not None
    return LogLine(
        task_id=owner[0],
        allocation_id=owner[1],
        text=text,
        timestamp_us=microseconds(message.timestamp),
        level=_read_level(message.level),
        agent_id=message.agent_id,
        container_id=message.container_id,
        stdtype=message.stdtype if is_output else "stdout",
        source="task" if is_output else message.source,
        end_offset=message.end_offset,
    )


def _read_level(name: str) -> int:
    full = f"LOG_LEVEL_{name.upper()}"
    return LogLevel.Value(full) if full in LogLevel.keys() else 0  # noqa: SIM118 (no mapping)
