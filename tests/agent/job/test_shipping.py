"""A rank's task log through outages and refusals; against a real HTTP server, and one with gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import pytest

from shipway_agent.errors import RuntimeUnavailable
from shipway_agent.job.shipping import JobLog
from shipway_agent.logs.delivery import Patience
from shipway_agent.logs.encode import LogSource
from shipway_agent.logs.forward import from_first_byte
from shipway_agent.logs.place import job_log_place
from shipway_agent.runtimes.spec import Chunk, Stream
from tests.agent.job.conftest import ALLOCATION, TASK, eventually
from tests.agent.job.stand_in import TOKEN, StandInRelay
from tests.agent.logs.conftest import output_of
from tests.agent.logs.stand_in import LogApi

SOURCE = LogSource(
    task_id=TASK, allocation_id=ALLOCATION, agent_id="n1", container_id="[cont=0]", rank=0
)
LOGS = "/api/v1/task/logs"


@contextlib.asynccontextmanager
async def job_log(url: str, *, limit_s: float = 20) -> AsyncIterator[JobLog]:
    patience = Patience(first_retry_s=0.02, longest_retry_s=0.1)
    log = JobLog(
        lambda: job_log_place(url, {}, None), TOKEN, SOURCE, limit_s=limit_s, patience=patience
    )
    async with log:
        yield log


def noted(stream: Stream, end: int) -> None:
    """Hear what was delivered."""


async def ship(relay: StandInRelay, output: Callable[[], AsyncIterator[Chunk]]) -> None:
    async with job_log(relay.url) as log:
        await log.ship(from_first_byte(output), noted)


async def test_an_outage_loses_nothing(relay: StandInRelay) -> None:
    expected = [f"{number}\n" for number in range(5000)]
    await relay.stop()
    async with asyncio.TaskGroup() as group:
        group.create_task(ship(relay, output_of("".join(expected).encode())))
        await asyncio.sleep(0.1)
        await relay.start()
    assert relay.lines == expected


async def test_what_is_not_delivered_in_time_is_counted(
    relay: StandInRelay, caplog: pytest.LogCaptureFixture
) -> None:
    await relay.stop()
    async with job_log(relay.url, limit_s=0.05) as log:
        shipping = asyncio.ensure_future(
            log.ship(from_first_byte(output_of(b"1\n2\n3\nno end")), noted)
        )
        await asyncio.wait([shipping], timeout=0.2)
        shipping.cancel()
        await asyncio.wait([shipping])
    assert "4 lines of the task's log were not delivered" in caplog.text


async def test_a_line_that_does_not_end_comes_all_the_same(relay: StandInRelay) -> None:
    stop = asyncio.Event()

    async def output() -> AsyncGenerator[Chunk]:
        yield Chunk(stream="stdout", data=b"password: ")
        await stop.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(ship(relay, output))
        await eventually(lambda: relay.lines == ["password: \n"])
        stop.set()


@pytest.mark.parametrize("status", [500, 503, 429, 408])
async def test_trouble_of_the_master_is_waited_out(relay: StandInRelay, status: int) -> None:
    relay.refuse[LOGS] = [status]
    await ship(relay, output_of(b"x\n"))
    assert relay.lines == ["x\n"]


async def test_a_batch_that_is_too_large_is_sent_in_parts(relay: StandInRelay) -> None:
    relay.refuse[LOGS] = [413, 413]
    await ship(relay, output_of(b"1\n2\n3\n4\n"))
    assert relay.lines == ["1\n", "2\n", "3\n", "4\n"]


async def test_a_refused_token_is_told_and_ends_it(
    relay: StandInRelay, caplog: pytest.LogCaptureFixture
) -> None:
    relay.refuse[LOGS] = [401]
    await ship(relay, output_of(b"1\n2\n"))
    assert relay.lines == []
    assert "the master takes no more of the task's log" in caplog.text
    assert "2 lines of the task's log were not delivered" in caplog.text


async def test_what_the_agent_says_comes_after_the_output(relay: StandInRelay) -> None:
    async with job_log(relay.url) as log:
        log.say("it ended: out of memory")
        await log.ship(from_first_byte(output_of(b"x\n")), noted)
    assert relay.lines == ["x\n", "it ended: out of memory\n"]


async def test_a_runtime_that_fails_for_a_while_costs_no_line(
    relay: StandInRelay, caplog: pytest.LogCaptureFixture
) -> None:
    fails = True

    async def output() -> AsyncGenerator[Chunk]:
        nonlocal fails
        yield Chunk(stream="stdout", data=b"1\n2")
        if fails:
            fails = False
            raise RuntimeUnavailable("the engine restarts")
        yield Chunk(stream="stdout", data=b"\n3\n")

    caplog.set_level(logging.WARNING)
    await ship(relay, output)
    assert relay.lines == ["1\n", "2\n", "3\n"]
    assert "the engine restarts" in caplog.text


async def test_much_output_goes_by_grpc_where_there_is_one() -> None:
    count, line = 25 * 18, b"x" * 60_000 + b"\n"  # long lines, for few of them fill a batch
    async with LogApi() as api:
        api.token = TOKEN
        async with job_log(f"http://127.0.0.1:{api.port}") as log:
            await log.ship(from_first_byte(output_of(*[line * 18] * 25)), noted)
    assert len(api.lines) == count
    assert set(api.calls) == {"rest", "grpc"}
    assert api.calls == sorted(api.calls, reverse=True)
