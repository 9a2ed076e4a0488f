"""One websocket connection of an agent: frames in and out, and whether the other side lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import WSMsgType, web

log = logging.getLogger(__name__)

FRAME_LIMIT_BYTES = 128 * 2**20
_OUTGOING_LIMIT = 1024
_UNHANDLED_LIMIT = 32
"""Messages that were read and not yet handled; then reading pauses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """How a dead connection is noticed, in seconds."""

    ping_every_s: float = 15.0
    silence_limit_s: float = 45.0
    """With no frame of any kind for so long, the connection is given up."""
    probe_s: float = 3.0
    """How long an old connection may take to show that it lives, when a new one wants its place."""

    @classmethod
    def with_limit(cls, silence_limit_s: float) -> Heartbeat:
        """Return a heartbeat by which a silence of *silence_limit_s* is noticed."""
        return cls(ping_every_s=min(15, silence_limit_s / 3), silence_limit_s=silence_limit_s)


class Session:
    """One connection. `send` never waits: an agent that does not read is dropped, not waited for."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        *,
        address: str,
        heartbeat: Heartbeat,
        origin: str = "",
    ) -> None:
        """Take over an open websocket.

        Args:
            address: Where the containers of the agent are reached.
            origin: Where the connection comes from, in words for people.
        """
        self.address = address
        self.origin = origin
        self._socket = socket
        self._heartbeat = heartbeat
        self._outgoing: asyncio.Queue[str] = asyncio.Queue(_OUTGOING_LIMIT)
        self._unhandled = asyncio.Semaphore(_UNHANDLED_LIMIT)
        self._heard_at = asyncio.get_running_loop().time()
        self._heard = asyncio.Event()
        self._closing = asyncio.Event()

    def send(self, text: str) -> None:
        """Queue a message; a connection that is closing or does not keep up loses it."""
        try:
            self._outgoing.put_nowait(text)
        except asyncio.QueueFull:
            log.warning("agent does not read its orders; its connection is dropped")
            self.close()

    def close(self) -> None:
        """End the connection after what was queued has been sent, if that goes quickly."""
        self._closing.set()

    def handled(self) -> None:
        """Say that one received message has been handled."""
        self._unhandled.release()

    async def is_alive(self) -> bool:
        """Ask the other side for a sign of life."""
        self._heard.clear()
        try:
            async with asyncio.timeout(self._heartbeat.probe_s):
                await self._socket.ping()
                await self._heard.wait()
        except (TimeoutError, OSError):
            return False
        return not self._closing.is_set()

    async def run(self, receive: Callable[[str | bytes], None]) -> None:
        """Serve the connection until it ends.

        Args:
            receive: Called for each message, in order; `handled` must follow for each. An exception
                ends the connection.
        """
        reader = asyncio.create_task(self._read(receive), name="agent reader")
        others = [
            asyncio.create_task(self._write(), name="agent writer"),
            asyncio.create_task(self._watch(), name="agent heartbeat"),
            asyncio.create_task(self._closing.wait(), name="agent close"),
        ]
        tasks: list[asyncio.Task[object]] = [reader, *others]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._closing.set()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self._say_goodbye()
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _read(self, receive: Callable[[str | bytes], None]) -> None:
        while True:
            await self._unhandled.acquire()
            while True:
                message = await self._socket.receive()
                self._heard_at = asyncio.get_running_loop().time()
                self._heard.set()
                if message.type is WSMsgType.PING:
                    await self._socket.pong(message.data)
                elif message.type is not WSMsgType.PONG:
                    break
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return
            receive(message.data)

    async def _write(self) -> None:
        while True:
            await self._socket.send_str(await self._outgoing.get())

    async def _watch(self) -> None:
        """Ping, and give the connection up after too long a silence."""
        loop = asyncio.get_running_loop()
        while loop.time() - self._heard_at < self._heartbeat.silence_limit_s:
            await asyncio.sleep(self._heartbeat.ping_every_s)
            await self._socket.ping()
        log.warning("agent has been silent too long; its connection is given up")

    async def _say_goodbye(self) -> None:
        """Send what is left and close, within a bound: the other side may be gone."""
        try:
            async with asyncio.timeout(self._heartbeat.probe_s):
                while not self._outgoing.empty() and not self._socket.closed:
                    await self._socket.send_str(self._outgoing.get_nowait())
                await self._socket.close(code=1000, message=b"close called")
        except (TimeoutError, OSError):
            log.debug("an agent's connection could not be closed in good order")
