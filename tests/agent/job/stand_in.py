"""A small HTTP server in the relay's place: writes down what jobs post, and can be away."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any, Self

from aiohttp import web

from tests.lab.processes import free_ports

TOKEN = "job-token"


class StandInRelay:
    """Answers every POST; `refuse` holds what it says no to."""

    def __init__(self) -> None:
        self.port = 0
        self.posts: list[tuple[str, Any]] = []
        self.refuse: dict[str, list[int]] = defaultdict(list)
        """By path: the status codes of the next answers."""
        self.is_refused_line = lambda record: False
        self.waiting = 0
        """How many posts have come that are not let in."""
        self.lets_in = asyncio.Event()
        self.lets_in.set()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def records(self) -> list[dict[str, Any]]:
        return [log for path, body in self.posts if path.endswith("/logs") for log in body["logs"]]

    @property
    def lines(self) -> list[str]:
        return [record["log"] for record in self.records]

    def bodies(self, path_end: str) -> list[Any]:
        return [body for path, body in self.posts if path.endswith(path_end)]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 28)
        app.router.add_post("/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        if not self.port:  # one that nobody else gets while it is stopped
            (self.port,) = free_ports(1)
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _serve(self, request: web.Request) -> web.Response:
        self.waiting += 1
        await self.lets_in.wait()
        self.waiting -= 1
        if request.transport is None:  # nobody waits for the answer any more
            return web.Response()
        body = await request.json()
        statuses = self.refuse[request.path]
        if request.headers.get("Grpc-Metadata-x-allocation-token") != f"Bearer {TOKEN}":
            statuses = [401]
        if statuses:
            return _error(statuses.pop(0))
        if any(map(self.is_refused_line, body.get("logs", []))):
            return _error(400)
        self.posts.append((request.path, body))
        await asyncio.sleep(0)
        return web.json_response({"data": []})


def _error(status: int) -> web.Response:
    return web.json_response({"error": {"code": 3, "error": "a test says no"}}, status=status)
