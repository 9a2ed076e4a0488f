"""Task logs: written by agents, log shippers and relays, read by people."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing

from google.protobuf.timestamp_pb2 import Timestamp

from shipway_master.allocations.ids import AllocationId, get_task_id
from shipway_master.auth import Principal
from shipway_master.errors import InvalidArgument, PermissionDenied, Unauthenticated
from shipway_master.logbook import LogBook, LogFields, LogLine, LogQuery, StoredTasks
from shipway_master.logbook.search import pattern_search, text_search
from shipway_master.rpc import Call
from shipway_master.store.base import moment
from shipway_master.times import to_microseconds
from shipway_proto.determined.api.v1.pagination_pb2 import ORDER_BY_DESC
from shipway_proto.determined.api.v1.task_pb2 import (
    PostTaskLogsRequest,
    PostTaskLogsResponse,
    TaskLogsFieldsRequest,
    TaskLogsFieldsResponse,
    TaskLogsRequest,
    TaskLogsResponse,
)
from shipway_proto.determined.api.v1.trial_pb2 import TrialLogsRequest
from shipway_proto.determined.log.v1.log_pb2 import LOG_LEVEL_UNSPECIFIED, LogLevel
from shipway_proto.determined.task.v1.task_pb2 import TaskLog

_CONTAINER_ID_SHOWN = 8


class LogService:
    """The RPCs of task logs."""

    def __init__(self, book: LogBook, tasks: StoredTasks, *, settle_s: float = 1.0) -> None:
        """Serve *book*.

        Args:
            settle_s: How long after the end of a task its followers wait for late lines, in
                seconds: those of a Slurm job come on another way than the news of its end.
        """
        self._book, self._tasks, self._settle_s = book, tasks, settle_s

    async def PostTaskLogs(self, request: PostTaskLogsRequest, call: Call) -> PostTaskLogsResponse:
        """Store lines of one task, which come from its owner (as a rule, from the task itself)."""
        if not request.logs:
            raise InvalidArgument("no logs to store")
        task_ids = {entry.task_id for entry in request.logs}
        if len(task_ids) > 1:
            raise InvalidArgument("logs of one request must belong to one task")
        if any(entry.HasField("id") for entry in request.logs):
            raise InvalidArgument("the id of a log is given by the master; leave it out")
        task_id = task_ids.pop()
        call.principal.require_owner_or_admin(await self._tasks.owner_of(task_id))
        _require_own_task(call.principal, task_id)
        await self._book.append([_line(entry) for entry in request.logs])
        return PostTaskLogsResponse()

    async def TaskLogs(
        self, request: TaskLogsRequest, call: Call
    ) -> AsyncIterator[TaskLogsResponse]:
        """Read the lines of a task, and the coming ones with `follow`."""
        check_log_request(request)
        query = make_query(request, request.task_id, allocation_ids=request.allocation_ids)
        await self._tasks.end_of(request.task_id)
        if request.follow:
            return _answers(self._book.follow(query, self._tasks, settle_s=self._settle_s))
        return _answers(self._book.read(query, limit=request.limit))

    async def TaskLogsFields(
        self, request: TaskLogsFieldsRequest, call: Call
    ) -> AsyncIterator[TaskLogsFieldsResponse]:
        """Read which agents, containers, ranks, … the lines of a task come from."""
        await self._tasks.end_of(request.task_id)
        return self._fields(request)

    async def _fields(
        self, request: TaskLogsFieldsRequest
    ) -> AsyncGenerator[TaskLogsFieldsResponse]:
        if not request.follow:
            yield _fields_answer(await self._book.fields(request.task_id))
            return
        found = self._book.follow_fields(request.task_id, self._tasks, settle_s=self._settle_s)
        async with aclosing(found):
            async for fields in found:
                yield _fields_answer(fields)


def _require_own_task(principal: Principal, task_id: str) -> None:
    """Let a task write into its own log alone, also after its end, when its last lines come."""
    allocation_id = principal.allocation_id
    if allocation_id is None or get_task_id(AllocationId(allocation_id)) == task_id:
        return
    if principal.has_ended:
        raise Unauthenticated("invalid credentials")
    raise PermissionDenied(f"{allocation_id} may not write into the log of {task_id}")


async def _answers(lines: AsyncGenerator[LogLine]) -> AsyncGenerator[TaskLogsResponse]:
    async with aclosing(lines):
        async for line in lines:
            yield _answer(line)


def _line(entry: TaskLog) -> LogLine:
    return LogLine(
        entry.task_id,
        entry.log,
        to_microseconds(entry.timestamp) if entry.HasField("timestamp") else None,
        entry.level,
        entry.allocation_id or None,
        entry.agent_id or None,
        entry.container_id or None,
        entry.rank_id if entry.HasField("rank_id") else None,
        entry.stdtype or None,
        entry.source or None,
    )


def check_log_request(request: TaskLogsRequest | TrialLogsRequest) -> None:
    """Raise InvalidArgument for what no stream of logs can do."""
    if request.limit < 0:
        raise InvalidArgument("Limit must be >= 0")
    if request.limit > 0 and request.follow:
        raise InvalidArgument("Limit cannot be specified when following")
    if request.follow and request.order_by == ORDER_BY_DESC:
        raise InvalidArgument("logs cannot be followed in descending order")


def make_query(
    request: TaskLogsRequest | TrialLogsRequest,
    task_id: str,
    *,
    allocation_ids: Iterable[str] = (),
) -> LogQuery:
    """Say which lines of a task a request asks for."""
    before, after = request.timestamp_before, request.timestamp_after
    return LogQuery(
        task_id=task_id,
        allocation_ids=frozenset(allocation_ids),
        agent_ids=frozenset(request.agent_ids),
        container_ids=frozenset(request.container_ids),
        rank_ids=frozenset(request.rank_ids),
        levels=frozenset(request.levels),
        stdtypes=frozenset(request.stdtypes),
        sources=frozenset(request.sources),
        before_us=to_microseconds(before) if request.HasField("timestamp_before") else None,
        after_us=to_microseconds(after) if request.HasField("timestamp_after") else None,
        has_text=_search(request),
        newest_first=request.order_by == ORDER_BY_DESC,
    )


def _search(request: TaskLogsRequest | TrialLogsRequest) -> Callable[[str], object] | None:
    if not request.search_text:
        return None
    search = pattern_search if request.enable_regex else text_search
    return search(request.search_text)


def _answer(line: LogLine) -> TaskLogsResponse:
    answer = TaskLogsResponse(
        id=str(line.id),
        task_id=line.task_id,
        log=line.text,
        message=format_message(line),
        level=get_level(line.level),
        allocation_id=line.allocation_id,
        agent_id=line.agent_id,
        container_id=line.container_id,
        rank_id=line.rank_id,
        source=line.source,
        stdtype=line.stdtype,
    )
    if line.timestamp_us is not None:
        set_timestamp(answer.timestamp, line.timestamp_us)
    return answer


def set_timestamp(stamp: Timestamp, time_us: int) -> None:
    """Write a moment, counted in microseconds from 1970."""
    seconds, microseconds = divmod(time_us, 1_000_000)
    stamp.seconds, stamp.nanos = seconds, microseconds * 1000


def get_level(number: int) -> LogLevel.ValueType:
    """The level of a line; what is no level we know is unspecified."""
    return LogLevel.ValueType(number) if number in LogLevel.values() else LOG_LEVEL_UNSPECIFIED


def format_message(line: LogLine) -> str:
    """Write *line* as people read it: time, container, rank, level, text, and a line end."""
    parts: list[str] = []
    if line.timestamp_us is not None:
        parts.append(f"[{moment(line.timestamp_us):%Y-%m-%dT%H:%M:%S.%f}Z]")
    if line.container_id:
        parts.append(line.container_id[:_CONTAINER_ID_SHOWN])
    if line.rank_id is not None:
        parts.append(f"[rank={line.rank_id}]")
    parts.append("||")
    level = get_level(line.level)
    if level != LOG_LEVEL_UNSPECIFIED:
        parts.append(LogLevel.Name(level).removeprefix("LOG_LEVEL_") + ":")
    parts.append(line.text)
    message = " ".join(parts)
    return message if message.endswith("\n") else message + "\n"


def _fields_answer(fields: LogFields) -> TaskLogsFieldsResponse:
    return TaskLogsFieldsResponse(
        allocation_ids=sorted(fields.allocation_ids),
        agent_ids=sorted(fields.agent_ids),
        container_ids=sorted(fields.container_ids),
        rank_ids=sorted(fields.rank_ids),
        stdtypes=sorted(fields.stdtypes),
        sources=sorted(fields.sources),
    )
