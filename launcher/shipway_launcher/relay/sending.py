"""Large answers to many at once: a few at a time, so that they do not all lie in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
from aiohttp import web

from shipway_launcher.relay.gathering import Answer

_AT_ONCE = 32
_CHUNK_BYTES = 256 << 10
_SMALL_BYTES = 64 << 10
_SLOW_S = 30.0
"""Who takes longer to read is no reason for others to wait."""


class LargeAnswers:
    """Sends what is the same for all ranks of a job."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._rendering = asyncio.Lock()

    async def json_of(self, answer: Answer) -> bytes:
        """Return an answer as JSON; made once, for whoever asks first."""
        async with self._rendering:
            return await asyncio.to_thread(lambda: answer.json)

    async def send_json(self, request: web.Request, body: bytes) -> web.StreamResponse:
        """Answer a REST call."""
        if len(body) <= _SMALL_BYTES:
            return web.Response(body=body, content_type="application/json")
        answer = web.StreamResponse()
        answer.content_type = "application/json"
        answer.content_length = len(body)
        await answer.prepare(request)
        view = memoryview(body)
        async with _Turn(self._turns):
            for place in range(0, len(body), _CHUNK_BYTES):
                await answer.write(view[place : place + _CHUNK_BYTES])
        await answer.write_eof()
        return answer

    async def send_message(
        self, context: grpc.aio.ServicerContext[Any, Any], message: bytes
    ) -> None:
        """Answer a gRPC call."""
        if len(message) <= _SMALL_BYTES:
            await context.write(message)
            return
        async with _Turn(self._turns):
            await context.write(message)


class _Turn:
    """One of a limited number; given back early by who takes too long."""

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns = turns
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        await self._turns.acquire()
        self._timer = asyncio.get_running_loop().call_later(_SLOW_S, self._give_back)

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._give_back()

    def _give_back(self) -> None:
        self._timer = None
        self._turns.release()
