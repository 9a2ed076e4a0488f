"""The logs of trials: those of a trial's tasks, one after the other."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Final

from sqlalchemy import select

from shipway_master.logbook import LogBook, LogFields, LogLine, StoredTasks
from shipway_master.queries.loading import get_trial_row
from shipway_master.rpc import Call
from shipway_master.services.logs import (
    check_log_request,
    format_message,
    get_level,
    make_query,
    set_timestamp,
)
from shipway_master.store.database import Database
from shipway_master.store.experiments import TrialTaskRow
from shipway_proto.determined.api.v1.pagination_pb2 import ORDER_BY_DESC
from shipway_proto.determined.api.v1.trial_pb2 import (
    TrialLogsFieldsRequest,
    TrialLogsFieldsResponse,
    TrialLogsRequest,
    TrialLogsResponse,
)

_IDS_PER_TASK: Final = 10**15
"""So ids grow within a trial, from task to task."""


class TrialLogService:
    """The RPCs of trials' logs."""

    def __init__(
        self, database: Database, book: LogBook, tasks: StoredTasks, *, settle_s: float = 1.0
    ) -> None:
        """Serve *book*.

        Args:
            settle_s: As `LogService` has it.
        """
        self._database = database
        self._book, self._tasks, self._settle_s = book, tasks, settle_s

    async def TrialLogs(
        self, request: TrialLogsRequest, call: Call
    ) -> AsyncIterator[TrialLogsResponse]:
        """Read the lines of a trial, and the coming ones with `follow`."""
        check_log_request(request)
        make_query(request, "")  # so that a malformed one is told before the stream begins
        await self._load_tasks(request.trial_id)
        return self._follow(request) if request.follow else self._read(request)

    async def TrialLogsFields(
        self, request: TrialLogsFieldsRequest, call: Call
    ) -> AsyncIterator[TrialLogsFieldsResponse]:
        """Read which agents, containers, ranks, … the lines of a trial come from."""
        await self._load_tasks(request.trial_id)
        return self._fields(request)

    async def _load_tasks(self, trial_id: int) -> Sequence[tuple[int, str]]:
        """Find the tasks of a trial, with their numbers in it, oldest first."""
        statement = (
            select(TrialTaskRow)
            .where(TrialTaskRow.trial_id == trial_id)
            .order_by(TrialTaskRow.number)
        )
        async with self._database.reading() as session:
            await get_trial_row(session, trial_id)
            return [(row.number, row.task_id) for row in await session.scalars(statement)]

    async def _read(self, request: TrialLogsRequest) -> AsyncGenerator[TrialLogsResponse]:
        left = request.limit
        tasks = await self._load_tasks(request.trial_id)
        for number, task_id in tasks[::-1] if request.order_by == ORDER_BY_DESC else tasks:
            lines = self._book.read(make_query(request, task_id), limit=left)
            async with aclosing(lines):
                async for line in lines:
                    yield _answer(line, request.trial_id, number)
                    left -= 1
            if request.limit and left == 0:
                return

    async def _follow(self, request: TrialLogsRequest) -> AsyncGenerator[TrialLogsResponse]:
        """One more task comes when an ended trial goes on."""
        done = 0
        while tasks := (await self._load_tasks(request.trial_id))[done:]:
            number, task_id = tasks[0]
            query = make_query(request, task_id)
            lines = self._book.follow(query, self._tasks, settle_s=self._settle_s)
            async with aclosing(lines):
                async for line in lines:
                    yield _answer(line, request.trial_id, number)
            done += 1

    async def _fields(
        self, request: TrialLogsFieldsRequest
    ) -> AsyncGenerator[TrialLogsFieldsResponse]:
        done = 0
        while tasks := (await self._load_tasks(request.trial_id))[done:]:
            _, task_id = tasks[0]
            if request.follow:
                found = self._book.follow_fields(task_id, self._tasks, settle_s=self._settle_s)
                async with aclosing(found):
                    async for fields in found:
                        yield _fields_answer(fields)
            else:
                yield _fields_answer(await self._book.fields(task_id))
            done += 1


def _answer(line: LogLine, trial_id: int, number: int) -> TrialLogsResponse:
    answer = TrialLogsResponse(
        id=str(number * _IDS_PER_TASK + line.id),
        message=format_message(line),
        level=get_level(line.level),
        trial_id=trial_id,
        agent_id=line.agent_id,
        container_id=line.container_id,
        rank_id=line.rank_id,
        log=line.text,
        source=line.source,
        stdtype=line.stdtype,
    )
    if line.timestamp_us is not None:
        set_timestamp(answer.timestamp, line.timestamp_us)
    return answer


def _fields_answer(fields: LogFields) -> TrialLogsFieldsResponse:
    return TrialLogsFieldsResponse(
        agent_ids=sorted(fields.agent_ids),
        container_ids=sorted(fields.container_ids),
        rank_ids=sorted(fields.rank_ids),
        stdtypes=sorted(fields.stdtypes),
        sources=sorted(fields.sources),
    )
