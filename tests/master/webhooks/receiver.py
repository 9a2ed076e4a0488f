"""A receiver of webhooks on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Received:
    """One call."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as data."""
        return json.loads(self.body)

    def is_signed_with(self, key: str) -> bool:
        """Check the signature as Determined's documentation tells receivers to."""
        text = json.dumps(json.loads(self.body), separators=(",", ":"))
        signed = f"{self.headers['X-Determined-AI-Signature-Timestamp']},{text}"
        expected = hmac.new(key.encode(), signed.encode(), hashlib.sha256).hexdigest()
        return expected == self.headers["X-Determined-AI-Signature"]


@dataclass
class Receiver:
    """Takes calls at `url`; answers with `statuses` in turn, then with 200."""

    port: int = 0
    statuses: list[int] = field(default_factory=list[int])
    calls: asyncio.Queue[Received] = field(default_factory=asyncio.Queue[Received])

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}/hook"

    async def next_call(self) -> Received:
        """Wait for a call."""
        async with asyncio.timeout(60):
            return await self.calls.get()

    async def take(self, request: web.Request) -> web.Response:
        """Answer a call."""
        await self.calls.put(Received(dict(request.headers), await request.read()))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)


@asynccontextmanager
async def receiving() -> AsyncGenerator[Receiver]:
    """Run a receiver."""
    receiver = Receiver()
    application = web.Application()
    application.router.add_post("/hook", receiver.take)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        receiver.port = runner.addresses[0][1]
        yield receiver
    finally:
        await runner.cleanup()
