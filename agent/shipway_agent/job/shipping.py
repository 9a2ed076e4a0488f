"""A task's output on its way to the task log, and what is said when some of it did not arrive."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from shipway_agent.errors import ContainerNotFound, ContainerRuntimeError
from shipway_agent.logs.batch import Batch
from shipway_agent.logs.delivery import LogDelivery, Patience
from shipway_agent.logs.encode import BatchEncoder, LogSource
from shipway_agent.logs.forward import OpenOutput, OutputForwarder
from shipway_agent.logs.lines import Lines, LineSplitter
from shipway_agent.logs.place import LogPlace
from shipway_agent.logs.routes import LogRoutes, TaskRoute
from shipway_agent.runtimes.spec import Stream
from shipway_common.backoff import backoff_delays_s

log = logging.getLogger(__name__)

_GRPC_AFTER_BATCHES = 20  # a relay has none, and to load gRPC pays for much output only
_COUNT_LIMIT_S = 10.0


class JobLog:
    """The task log of one rank; to be entered. On the way out it delivers what was said.

    Output waits in the runtime's files until the master takes it, so that it costs no memory.
    """

    def __init__(
        self,
        find_place: Callable[[], LogPlace],
        token: str,
        source: LogSource,
        *,
        limit_s: float,
        patience: Patience | None = None,
    ) -> None:
        """Prepare.

        Args:
            find_place: Says where the log goes; blocking.
            token: The allocation's.
            source: Whose output it is.
            limit_s: How long delivery may take after the end of the task, in seconds.
        """
        self._routes = LogRoutes(find_place, grpc_after_batches=_GRPC_AFTER_BATCHES)
        self._route = TaskRoute(self._routes, BatchEncoder(source), token)
        self._delivery = LogDelivery(
            self._route, source, None, instead=None, on_note=self.say, patience=patience
        )
        self.limit_s = limit_s
        self._delivered: dict[Stream, int] = {}
        self._said: list[str] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._routes)
        await self._stack.enter_async_context(self._route)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            async with asyncio.timeout(self.limit_s):
                await self._deliver_said()
        except TimeoutError:
            self._tell_lost(len(self._said))
        finally:
            await self._stack.aclose()

    def say(self, text: str) -> None:
        """Add a line of the agent's own, for whoever reads the task's log, after the output."""
        self._said.append(text)

    async def ship(
        self, open_output: OpenOutput, on_delivered: Callable[[Stream, int], None]
    ) -> None:
        """Bring all output to the master; cancelled, it says how much is missing.

        Args:
            open_output: Gives the task's output.
            on_delivered: Called with a stream and its new offset.
        """

        def note(stream: Stream, end: int) -> None:
            self._delivered[stream] = end
            on_delivered(stream, end)

        forwarder = OutputForwarder(
            open_output,
            self._delivery,
            delivered={},
            on_delivered=note,
        )
        try:
            await _run_through(forwarder)
        except asyncio.CancelledError:
            await self._count_lost(open_output)
            raise
        self._tell_lost(self._delivery.lost)

    async def _deliver_said(self) -> None:
        if self._said:
            texts = [f"{text}\n".encode() for text in self._said]
            lines = Lines(stream="stderr", texts=texts, has_prefixes=False, begin=0, end=0)
            batch = Batch()
            batch.add(lines, time.time_ns() // 1000)
            await self._delivery.send(batch, self._said.clear)

    async def _count_lost(self, open_output: OpenOutput) -> None:
        count = self._delivery.lost
        try:
            async with asyncio.timeout(_COUNT_LIMIT_S):
                reading = await open_output(self._delivered)
                splitter = LineSplitter(skip=self._delivered, begins=reading.begins)
                async for chunk in reading.chunks:
                    for lines in splitter.feed(chunk.stream, chunk.data, 0):
                        count += len(lines.texts)
                count += sum(len(lines.texts) for lines in splitter.flush())
        except (ContainerRuntimeError, TimeoutError) as error:
            log.warning("not all of the output could be read again: %r", error)
        self._tell_lost(count)

    def _tell_lost(self, count: int) -> None:
        if count:
            log.error(
                "%d lines of the task's log were not delivered within %g s", count, self.limit_s
            )


async def _run_through(forwarder: OutputForwarder) -> None:
    """Forward to the end, whatever the runtime's moods."""
    problem = ""
    for delay_s in backoff_delays_s(limit_s=5):
        try:
            await forwarder.run()
        except ContainerNotFound:
            return
        except ContainerRuntimeError as error:
            if str(error) != problem:
                problem = str(error)
                log.warning("cannot read the task's output, trying again: %s", problem)
        else:
            return
        await asyncio.sleep(delay_s)
