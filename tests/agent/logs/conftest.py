from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from shipway_agent.logs.batch import Batch
from shipway_agent.logs.delivery import LogDelivery, Patience
from shipway_agent.logs.encode import BatchEncoder, LogSource
from shipway_agent.logs.forward import OutputForwarder, from_first_byte
from shipway_agent.logs.journal import Journal
from shipway_agent.logs.place import LogPlace, job_log_place
from shipway_agent.logs.routes import LogRoutes, TaskRoute
from shipway_agent.runtimes.spec import Chunk, Stream
from tests.agent.logs.stand_in import TOKEN, LogApi

SOURCE = LogSource(task_id="task-1", allocation_id="task-1.1", agent_id="n1", container_id="c1")
PATIENCE = Patience(first_retry_s=0.02, longest_retry_s=0.1, internal_errors=3)


class OtherWay:
    """Takes what the task's token does not bring."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.is_blocked = False

    async def send(self, batch: Batch, on_delivered: Callable[[], None]) -> None:
        self.texts += [text.decode()[:-1] for part in batch.parts for text in part.lines.texts]
        on_delivered()


class Shipper:
    """Brings output to an API as the agent does; with `ship`, all of it."""

    def __init__(self, stack: AsyncExitStack, journal: Path) -> None:
        self._stack = stack
        self.journal = Journal(journal)
        self.other = OtherWay()
        self.notes: list[str] = []
        self.delivered: dict[Stream, int] = {}
        self.delivery: LogDelivery | None = None

    async def prepare(self, place: LogPlace, *, token: str = TOKEN) -> LogDelivery:
        routes = await self._stack.enter_async_context(LogRoutes(lambda: place))
        route = TaskRoute(routes, BatchEncoder(SOURCE), token)
        await self._stack.enter_async_context(route)
        self.delivery = LogDelivery(
            route,
            SOURCE,
            self.journal,
            instead=self.other,
            on_note=self.notes.append,
            patience=PATIENCE,
        )
        return self.delivery

    async def ship(
        self,
        api: LogApi,
        output: Callable[[], AsyncGenerator[Chunk]],
        *,
        token: str = TOKEN,
        delivered: Mapping[Stream, int] | None = None,
    ) -> None:
        place = job_log_place(f"http://127.0.0.1:{api.port}", {}, None)
        delivery = await self.prepare(place, token=token)
        offsets, not_before_us = await delivery.recover(delivered or {})
        await OutputForwarder(
            from_first_byte(output),
            delivery,
            delivered=offsets,
            on_delivered=self.delivered.__setitem__,
            not_before_us=not_before_us,
            linger_s=0.02,
        ).run()


@pytest.fixture
async def shipper(tmp_path: Path) -> AsyncIterator[Shipper]:
    async with AsyncExitStack() as stack:
        yield Shipper(stack, tmp_path / "c1.sent")


@pytest.fixture
async def api() -> AsyncIterator[LogApi]:
    async with LogApi() as api:
        yield api


def output_of(*pieces: bytes, stream: Stream = "stdout") -> Callable[[], AsyncGenerator[Chunk]]:
    """Give these pieces, from the first byte, each time it is asked."""

    async def output() -> AsyncGenerator[Chunk]:
        for data in pieces:
            yield Chunk(stream=stream, data=data)

    return output
