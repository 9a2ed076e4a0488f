"""A task's output on its way to the task log: lines, batches, patience, and an honest gap."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shipway_agent.logs.lines import Lines, LineSplitter
from shipway_agent.runtimes.spec import Chunk, Stream
from shipway_agent.taskapi import CallFailed, CallRefused, TaskApi
from shipway_common.backoff import backoff_delays_s

log = logging.getLogger(__name__)

_PATH = "/api/v1/task/logs"
_BATCH_LINES = 1000
_BATCH_BYTES = 1 << 20
_LINE_OVERHEAD_BYTES = 400  # what a record costs beside its text, in memory and on the wire


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSource:
    """Who writes the lines; the same for all of them."""

    task_id: str
    allocation_id: str
    agent_id: str
    container_id: str
    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippingLimits:
    """How long to collect and how much to keep."""

    interval_s: float = 1.0
    """Lines wait this long for company."""
    buffer_bytes: int = 32 << 20
    """Kept while the master is away; beyond it the oldest lines go."""


class LogShipper:
    """Takes output as it comes and posts it in order; `run` does the posting."""

    def __init__(
        self,
        api: TaskApi,
        source: LogSource,
        limits: ShippingLimits | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api, self._source, self._now = api, source, now
        self._limits = limits or ShippingLimits()
        self._splitter = LineSplitter()
        self._waiting: deque[dict[str, Any]] = deque()
        self._waiting_bytes = 0
        self._lost = 0
        self._under_way = 0
        self._is_closed = False
        self._is_refused = False
        self._changed = asyncio.Event()

    @property
    def backlog(self) -> int:
        """Lines that are not delivered."""
        return len(self._waiting) + self._lost + self._under_way

    def feed(self, chunk: Chunk) -> None:
        """Take output; never blocks, whatever the master does."""
        for line in self._splitter.feed(chunk.stream, chunk.data, time.monotonic()):
            self._add_lines(line)

    def say(self, text: str) -> None:
        """Add a line of the agent's own, for whoever reads the task's log."""
        self._add("stderr", text)

    def close(self) -> None:
        """Take what is left of unfinished lines; `run` ends when all is delivered."""
        for line in self._splitter.flush():
            self._add_lines(line)
        self._is_closed = True
        self._changed.set()

    async def run(self) -> None:
        """Post until `close` was called and nothing is left, or the master refuses the token."""
        while not self._is_refused:
            self._take_due()
            if not self._waiting and not self._lost:
                if self._is_closed:
                    return
                await self._wait_for_lines()
            if not self._is_closed:
                await self._wait_for_company()
            batch = self._next_batch()
            if batch:
                self._under_way = len(batch)
                await self._deliver(batch)
                self._under_way = 0

    def _take_due(self) -> None:
        for line in self._splitter.due(time.monotonic()):
            self._add_lines(line)

    def _add_lines(self, lines: Lines) -> None:
        for text in lines.texts:
            self._add(lines.stream, text[:-1].decode())

    def _add(self, stream: Stream, text: str) -> None:
        if self._is_refused:
            return
        self._waiting.append(self._record(stream, text))
        self._waiting_bytes += _size(text)
        while self._waiting_bytes > self._limits.buffer_bytes and len(self._waiting) > 1:
            self._waiting_bytes -= _size(self._waiting.popleft()["log"])
            self._lost += 1
        self._changed.set()

    async def _wait_for_lines(self) -> None:
        """Wait until there is a line, or one that never ended has waited long enough."""
        self._changed.clear()
        deadline = self._splitter.deadline()
        try:
            async with asyncio.timeout(
                None if deadline is None else max(0.0, deadline - time.monotonic())
            ):
                await self._changed.wait()
        except TimeoutError:
            self._take_due()

    async def _wait_for_company(self) -> None:
        """Let more lines come, unless there are enough for a batch or no more will."""
        try:
            async with asyncio.timeout(self._limits.interval_s):
                while len(self._waiting) < _BATCH_LINES and not self._is_closed:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass

    def _next_batch(self) -> list[dict[str, Any]]:
        batch: list[dict[str, Any]] = []
        if self._lost:
            batch.append(self._gap_mark())
            self._lost = 0
        size = 0
        while self._waiting and len(batch) < _BATCH_LINES and size < _BATCH_BYTES:
            record = self._waiting.popleft()
            size += _size(record["log"])
            batch.append(record)
        self._waiting_bytes -= size
        return batch

    async def _deliver(self, batch: Sequence[dict[str, Any]]) -> None:
        """Post one batch, however long the master is away; what it refuses is dropped."""
        is_away = False
        for delay_s in backoff_delays_s(limit_s=10):
            try:
                await self._api.post(_PATH, {"logs": batch})
            except CallFailed as error:
                if not is_away:
                    is_away = True
                    log.warning("task log not delivered; trying again: %s", error)
            except CallRefused as error:
                await self._handle_refusal(batch, error)
                return
            else:
                return
            await asyncio.sleep(delay_s)

    async def _handle_refusal(self, batch: Sequence[dict[str, Any]], error: CallRefused) -> None:
        if error.status in {401, 403}:
            self._is_refused = True
            lost = len(batch) + len(self._waiting)
            self._waiting.clear()
            log.warning("the master takes no more of the task's log (%d lines): %s", lost, error)
        elif len(batch) > 1:  # one of them is at fault, and the others must not suffer
            middle = len(batch) // 2
            await self._deliver(batch[:middle])
            await self._deliver(batch[middle:])
        else:
            log.warning("the master refused a line of the task's log, which is dropped: %s", error)

    def _gap_mark(self) -> dict[str, Any]:
        text = f"[{self._lost} lines of output are missing here: the master was away too long]"
        return {**self._record("stderr", text), "level": "LOG_LEVEL_WARNING"}

    def _record(self, stream: Stream, text: str) -> dict[str, Any]:
        source = self._source
        return {
            "taskId": source.task_id,
            "allocationId": source.allocation_id,
            "agentId": source.agent_id,
            "containerId": source.container_id,
            "rankId": source.rank,
            "timestamp": self._now().isoformat(),
            "stdtype": stream,
            "source": "task",
            "log": text + "\n",
        }


def _size(text: str) -> int:
    return len(text) + _LINE_OVERHEAD_BYTES
