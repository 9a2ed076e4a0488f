"""A task's output as our own stdout and stderr, byte for byte, as long as somebody reads them."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import threading
from collections.abc import AsyncIterator, Callable, Mapping

from shipway_agent.runtimes.spec import Chunk, Stream

log = logging.getLogger(__name__)

_DESCRIPTORS: Mapping[Stream, int] = {"stdout": 1, "stderr": 2}
_LOOK_INTERVAL_MS = 200


async def copy_output(
    chunks: AsyncIterator[Chunk], on_copied: Callable[[Stream, int], None]
) -> None:
    """Write a task's output to our own; cancelled, it gives up what nobody takes.

    Args:
        chunks: From the first byte on.
        on_copied: Called with a stream and how much of it was written, or nobody wants.
    """
    closed: set[Stream] = set()
    ends: dict[Stream, int] = {"stdout": 0, "stderr": 0}
    given_up = threading.Event()
    try:
        async for chunk in chunks:
            if chunk.stream not in closed:
                try:
                    await asyncio.to_thread(
                        _write, _DESCRIPTORS[chunk.stream], chunk.data, given_up
                    )
                except OSError as error:  # srun has gone; the task and its log have not
                    closed.add(chunk.stream)
                    log.warning("cannot pass on %s any more: %s", chunk.stream, error)
            ends[chunk.stream] += len(chunk.data)
            on_copied(chunk.stream, ends[chunk.stream])
    finally:
        given_up.set()  # else the process would wait for the thread, and the thread for a reader


class SlowestReader:
    """How far all of several readers of one output have come."""

    def __init__(self, count: int, on_moved: Callable[[Stream, int], None]) -> None:
        self._ends: list[dict[Stream, int]] = [{} for _ in range(count)]
        self._on_moved = on_moved

    def note_of(self, number: int) -> Callable[[Stream, int], None]:
        """Return what the reader *number* is to call with a stream and its new offset there."""

        def note(stream: Stream, end: int) -> None:
            self._ends[number][stream] = end
            self._on_moved(stream, min(ends.get(stream, 0) for ends in self._ends))

        return note


def _write(descriptor: int, data: bytes, given_up: threading.Event) -> None:
    """Write all of it, unless the reader stalls and *given_up* is set meanwhile."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    rest = memoryview(data)
    while rest and not given_up.is_set():
        if poll.poll(_LOOK_INTERVAL_MS):  # so much fits, then, without waiting
            rest = rest[os.write(descriptor, rest[: select.PIPE_BUF]) :]
