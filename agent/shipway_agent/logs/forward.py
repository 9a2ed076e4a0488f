"""One container's output on its way to the master: read, split, wait for room, remember."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from shipway_agent.logs.lines import Line, LineSplitter
from shipway_agent.runtimes.spec import Chunk, Stream

log = logging.getLogger(__name__)

_QUEUED_CHUNKS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """What comes after the last chunk."""

    error: Exception | None = None


class OutputSink(Protocol):
    """Where lines go."""

    @property
    def has_room(self) -> bool:
        """Whether `wait_room` would return at once."""
        ...

    async def wait_room(self) -> None:
        """Wait until lines are taken again."""
        ...

    def take(self, line: Line, on_read: Callable[[], None]) -> None:
        """Take a line; *on_read* is called once the master has it."""
        ...


class OutputForwarder:
    """Brings the output of one container to a sink, from where the master's reading ended.

    Nothing is kept here but what is on its way: a sink that takes nothing makes the reading wait,
    and what a container writes meanwhile stays where the runtime put it.
    """

    def __init__(
        self,
        open_output: Callable[[], AsyncIterator[Chunk]],
        sink: OutputSink,
        *,
        delivered: Mapping[Stream, int],
        on_delivered: Callable[[Stream, int], None],
    ) -> None:
        """Make a forwarder.

        Args:
            open_output: Gives all output of the container from its first byte on.
            delivered: Offsets up to which the master has read each stream.
            on_delivered: Called with a stream and its new offset.
        """
        self._open_output = open_output
        self._sink = sink
        self._delivered = dict(delivered)
        self._on_delivered = on_delivered
        self._queued: dict[Stream, int] = dict(delivered)
        self.chunks_read = 0
        """Grows while something comes."""

    @property
    def is_blocked(self) -> bool:
        """Whether it is the master that everything waits for."""
        return not self._sink.has_room

    async def run(self) -> None:
        """Forward until the output ends; may be called again after it raised.

        Raises:
            ContainerRuntimeError: The runtime did not give the output.
        """
        splitter = LineSplitter(skip=self._queued)
        chunks: asyncio.Queue[Chunk | _End] = asyncio.Queue(_QUEUED_CHUNKS)
        reader = asyncio.ensure_future(self._read(chunks))
        try:
            while not isinstance(chunk := await self._next(chunks, splitter), _End):
                await self._pass(splitter.feed(chunk.stream, chunk.data, _now()))
            if chunk.error is not None:
                raise chunk.error
        finally:
            reader.cancel()
            await asyncio.wait([reader])
        await self._pass(splitter.flush())

    async def _read(self, chunks: asyncio.Queue[Chunk | _End]) -> None:
        output = self._open_output()
        try:
            async for chunk in output:
                self.chunks_read += 1
                await chunks.put(chunk)
        except Exception as error:  # noqa: BLE001 (whoever takes it from the queue raises it)
            await chunks.put(_End(error=error))
        else:
            await chunks.put(_End())
        finally:
            if isinstance(output, AsyncGenerator):
                await output.aclose()

    async def _next(
        self, chunks: asyncio.Queue[Chunk | _End], splitter: LineSplitter
    ) -> Chunk | _End:
        """Wait for bytes; passes on unfinished lines that have waited too long meanwhile."""
        while True:
            deadline = splitter.deadline()
            try:
                async with asyncio.timeout_at(deadline):
                    return await chunks.get()
            except TimeoutError:
                await self._pass(splitter.due(_now()))

    async def _pass(self, lines: list[Line]) -> None:
        for line in lines:
            if not self._sink.has_room:
                await self._sink.wait_room()
            self._queued[line.stream] = line.end
            self._sink.take(line, functools.partial(self._note_read, line.stream, line.end))

    def _note_read(self, stream: Stream, end: int) -> None:
        if end > self._delivered.get(stream, 0):
            self._delivered[stream] = end
            self._on_delivered(stream, end)


def _now() -> float:
    return asyncio.get_running_loop().time()
