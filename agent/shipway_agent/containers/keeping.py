"""The output that a runtime keeps for us: read on from where we were, and given up as it is delivered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from shipway_agent.errors import ContainerNotFound, ContainerRuntimeError
from shipway_agent.logs.forward import Reading, from_first_byte
from shipway_agent.runtimes.spec import ContainerHandle, KeepsOutput, Runtime, Stream

log = logging.getLogger(__name__)


class OutputKeeping:
    """One container's; does nothing where the runtime, as an engine does, keeps it by itself."""

    def __init__(self, runtime: Runtime, handle: ContainerHandle) -> None:
        self._runtime, self._handle = runtime, handle
        self._delivered: dict[Stream, int] = {}
        self._has_news = asyncio.Event()

    async def open(self, offsets: Mapping[Stream, int]) -> Reading:
        """Read the output; see `OpenOutput`."""
        runtime, handle = self._runtime, self._handle
        if not isinstance(runtime, KeepsOutput):
            return await from_first_byte(lambda: runtime.output(handle))(offsets)
        kept = await runtime.first_kept(handle)
        begins = dict(kept)
        for stream, offset in offsets.items():
            begins[stream] = max(begins[stream], offset)
        return Reading(begins=begins, chunks=runtime.output_from(handle, begins))

    def noting(self, on_delivered: Callable[[Stream, int], None]) -> Callable[[Stream, int], None]:
        """Return *on_delivered* so that `release` hears of it, too."""

        def note(stream: Stream, end: int) -> None:
            on_delivered(stream, end)
            self._delivered[stream] = end
            self._has_news.set()

        return note

    async def release(self) -> None:
        """Give up what was delivered, until cancelled."""
        runtime = self._runtime
        if not isinstance(runtime, KeepsOutput):
            return
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            offsets = dict(self._delivered)
            for stream, end in self._delivered.items():
                offsets[stream] = max(0, end - 1)  # the byte before what comes next is needed
            await self._try(runtime.release_output(self._handle, offsets))

    async def discard(self) -> None:
        """Give up all of it: nobody will read it."""
        if isinstance(self._runtime, KeepsOutput):
            await self._try(self._runtime.discard_output(self._handle))

    async def _try(self, call: Awaitable[None]) -> None:
        try:
            await call
        except ContainerNotFound:
            return
        except (ContainerRuntimeError, OSError) as error:
            log.warning("delivered output is not given up: %s", error)
