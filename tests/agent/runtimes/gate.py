"""A socket before an engine's, whose connections can be cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


class Gate:
    """A socket before an engine's, whose connections can be cut."""

    def __init__(self, path: Path, behind: Path) -> None:
        self.path = path
        self._behind = behind
        self._is_shut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._lost: list[bytes] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Gate]:
        """Pass connections through, until the end of the block."""
        server = await asyncio.start_unix_server(self._pass, self.path)
        try:
            yield self
        finally:
            self.shut()
            server.close()
            await server.wait_closed()

    def shut(self) -> None:
        """Cut all connections, and let nobody in."""
        self._is_shut = True
        for writer in list(self._writers):
            writer.transport.abort()

    def lose_answer_to(self, request: str) -> None:
        """Let the next request that holds *request* through, and cut its answer off."""
        self._lost.append(request.encode())

    @property
    def all_lost(self) -> bool:
        """Whether all answers were cut off that are to be lost."""
        return not self._lost

    def let_in(self) -> None:
        """Take connections again."""
        self._is_shut = False

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_shut:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_unix_connection(str(self._behind))
        self._writers |= {writer, far_writer}
        loses = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._copy_requests(reader, far_writer, loses))
            group.create_task(_copy_answers(far_reader, writer, loses))
        self._writers -= {writer, far_writer}

    async def _copy_requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, loses: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                for request in [one for one in self._lost if one in data]:
                    self._lost.remove(request)
                    loses.set()
                writer.write(data)
                await writer.drain()
        writer.close()


async def _copy_answers(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, loses: asyncio.Event
) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            if loses.is_set():
                writer.transport.abort()
                return
            writer.write(data)
            await writer.drain()
    writer.close()
