"""An image registry whose layer comes when a test lets it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from tests.agent.runtimes.imageregistry import ImageRegistry, serving
from tests.lab.processes import LabError


class SlowRegistry(ImageRegistry):
    """Holds back the answer with the layer until the gate is open."""

    def __init__(self, gate: threading.Event) -> None:
        """Hold back until *gate* is set."""
        super().__init__()
        self._gate = gate
        self._asked_for_layer = threading.Event()

    def wait_until_asked_for_layer(self) -> None:
        """Wait until an engine is in the middle of a pull."""
        if not self._asked_for_layer.wait(60):
            raise LabError(f"nobody pulls; asked so far: {self.asked}")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request of the registry protocol, sooner or later."""
        answer = await super().answer(request)
        if request.method == "GET" and answer.status == 200 and self._is_layer(request):
            self._asked_for_layer.set()
            await asyncio.to_thread(self._gate.wait, 100)
        return answer

    def _is_layer(self, request: web.Request) -> bool:
        return request.path.endswith(self._layer)


@contextmanager
def slow_registry(gate: threading.Event) -> Iterator[SlowRegistry]:
    """Serve a registry beside the test, in a thread of its own."""
    registry = SlowRegistry(gate)
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with serving(registry):
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    try:
        ready.wait(60)
        yield registry
    finally:
        gate.set()
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()
