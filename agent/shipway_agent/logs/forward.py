"""One container's output on its way to the master: read, split, gather, hand over, remember."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
)
from dataclasses import dataclass
from typing import Protocol

from shipway_agent.logs.batch import Batch
from shipway_agent.logs.lines import Lines, LineSplitter
from shipway_agent.runtimes.spec import Chunk, Stream

log = logging.getLogger(__name__)

_LINGER_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Output that is being read."""

    begins: Mapping[Stream, int]
    """The offset in each stream of the first byte that comes."""
    chunks: AsyncIterator[Chunk]


OpenOutput = Callable[[Mapping[Stream, int]], Awaitable[Reading]]
"""Reads a container's output, at least from some offsets on, or what is left of it."""


def from_first_byte(open_output: Callable[[], AsyncIterator[Chunk]]) -> OpenOutput:
    """Return how to read what can only be read from its first byte on."""

    async def open_reading(_: Mapping[Stream, int]) -> Reading:
        return Reading(begins={}, chunks=open_output())

    return open_reading


class OutputSink(Protocol):
    """Where batches go, one after the other."""

    @property
    def is_blocked(self) -> bool:
        """Whether it is the master that `send` waits for."""
        ...

    async def send(self, batch: Batch, on_delivered: Callable[[], None]) -> None:
        """Take a batch; returns when the next may come.

        Args:
            on_delivered: Called once the master has all of it, maybe after this returned.
        """
        ...


class OutputForwarder:
    """Brings the output of one container to a sink, from where the master's reading ended.

    Nothing is kept here but one batch under way and the next one: a sink that takes nothing makes
    the reading wait, and what a container writes meanwhile stays where the runtime put it.
    """

    def __init__(
        self,
        open_output: OpenOutput,
        sink: OutputSink,
        *,
        delivered: Mapping[Stream, int],
        on_delivered: Callable[[Stream, int], None],
        not_before_us: int = 0,
        linger_s: float = _LINGER_S,
    ) -> None:
        """Make a forwarder.

        Args:
            open_output: Gives the container's output.
            sink: Where it goes.
            delivered: Offsets up to which the master has read each stream.
            on_delivered: Called with a stream and its new offset.
            not_before_us: A time that all lines are to be later than, in microseconds since 1970.
            linger_s: How long lines wait for company.
        """
        self._open_output = open_output
        self._sink = sink
        self._delivered = dict(delivered)
        self._on_delivered = on_delivered
        self._linger_s = linger_s
        self._queued: dict[Stream, int] = dict(delivered)
        self._splitter = LineSplitter(skip=self._queued)
        self._batch = Batch()
        self._last_us = not_before_us
        self._is_read = False
        self._grown = asyncio.Event()
        self._taken = asyncio.Event()
        self.progress = 0
        """Grows while something comes or goes."""

    @property
    def is_blocked(self) -> bool:
        """Whether it is the master that everything waits for."""
        return self._sink.is_blocked

    async def run(self) -> None:
        """Forward until the output ends; may be called again after it raised.

        Raises:
            ContainerRuntimeError: The runtime did not give the output.
        """
        # The byte before tells what the next one begins or continues.
        offsets = dict(self._queued)
        for stream, end in self._queued.items():
            offsets[stream] = max(0, end - 1)
        reading = await self._open_output(offsets)
        self._splitter = LineSplitter(skip=self._queued, begins=reading.begins)
        self._is_read = False
        reader = asyncio.ensure_future(self._read(reading.chunks))
        try:
            while (batch := await self._next_batch()) is not None:
                await self._sink.send(batch, functools.partial(self._note_delivered, batch))
                self.progress += 1
        finally:
            reader.cancel()
            await asyncio.wait([reader])
        reader.result()

    async def _read(self, output: AsyncIterator[Chunk]) -> None:
        try:
            async for chunk in output:
                self.progress += 1
                now_us = time.time_ns() // 1000
                for lines in self._splitter.feed(chunk.stream, chunk.data, _now()):
                    while self._batch.is_full:
                        self._taken.clear()
                        await self._taken.wait()
                    self._add(lines, now_us)
                self._grown.set()
            self._add_all(self._splitter.flush())
        finally:
            self._is_read = True
            self._grown.set()
            if isinstance(output, AsyncGenerator):
                await output.aclose()

    async def _next_batch(self) -> Batch | None:
        """Wait for lines and their company; None when all were taken."""
        while not self._batch.count and not self._is_read:
            await self._wait_growth(self._splitter.deadline())
            self._add_all(self._splitter.due(_now()))
        full_at = _now() + self._linger_s
        while not (self._batch.is_full or self._is_read) and _now() < full_at:
            await self._wait_growth(full_at)
        batch, self._batch = self._batch, Batch()
        self._taken.set()
        # Of a later batch each time is later, by which a master can be asked what it has.
        self._last_us += 1
        return batch if batch.count else None

    async def _wait_growth(self, deadline: float | None) -> None:
        """Wait until more was read, or *deadline* of the loop's clock."""
        self._grown.clear()
        try:
            async with asyncio.timeout_at(deadline):
                await self._grown.wait()
        except TimeoutError:
            return

    def _add_all(self, some: Iterable[Lines]) -> None:
        for lines in some:
            self._add(lines, time.time_ns() // 1000)

    def _add(self, lines: Lines, now_us: int) -> None:
        self._last_us = max(now_us, self._last_us)  # clocks are set back now and then
        self._batch.add(lines, self._last_us)
        self._queued[lines.stream] = lines.end
        if self._batch.is_full:
            self._grown.set()

    def _note_delivered(self, batch: Batch) -> None:
        for stream, end in batch.ends.items():
            if end > self._delivered.get(stream, 0):
                self._delivered[stream] = end
                self._on_delivered(stream, end)


def _now() -> float:
    return asyncio.get_running_loop().time()
