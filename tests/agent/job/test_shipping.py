"""Log lines through an outage, within bounds; against a real HTTP server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from shipway_agent.job.shipping import LogShipper, LogSource, ShippingLimits
from shipway_agent.runtimes.spec import Chunk
from shipway_agent.taskapi import TaskApi
from tests.agent.job.conftest import ALLOCATION, TASK, eventually
from tests.agent.job.stand_in import TOKEN, StandInRelay

SOURCE = LogSource(
    task_id=TASK, allocation_id=ALLOCATION, agent_id="n1", container_id="[cont=0]", rank=0
)
LOGS = "/api/v1/task/logs"


@contextlib.asynccontextmanager
async def shipping(relay: StandInRelay, limits: ShippingLimits) -> AsyncIterator[LogShipper]:
    async with TaskApi(relay.url, TOKEN) as api:
        shipper = LogShipper(api, SOURCE, limits)
        async with asyncio.TaskGroup() as group, asyncio.timeout(30):
            group.create_task(shipper.run())
            yield shipper
            shipper.close()


def chunk(text: str) -> Chunk:
    return Chunk(stream="stdout", data=text.encode())


async def test_an_outage_within_the_buffer_loses_nothing(relay: StandInRelay) -> None:
    expected = [f"{number}\n" for number in range(5000)]
    async with shipping(relay, ShippingLimits(interval_s=0.01)) as shipper:
        await relay.stop()
        for text in expected:
            shipper.feed(chunk(text))
        await asyncio.sleep(0.1)
        await relay.start()
    assert relay.lines == expected


async def test_an_outage_beyond_the_buffer_leaves_one_honest_mark(relay: StandInRelay) -> None:
    limits = ShippingLimits(interval_s=0.01, buffer_bytes=100_000)
    count = 2000
    async with shipping(relay, limits) as shipper:
        await relay.stop()
        for number in range(count):
            shipper.feed(chunk(f"{number}\n"))
        await relay.start()
    [mark] = [line for line in relay.lines if "missing here" in line]
    place = relay.lines.index(mark)
    numbers = [int(line) for line in relay.lines if line != mark]
    lost = int(mark.removeprefix("[").split()[0])
    assert numbers == [*range(place), *range(place + lost, count)]
    assert len(numbers) + lost == count


async def test_a_line_that_does_not_end_comes_all_the_same(relay: StandInRelay) -> None:
    async with shipping(relay, ShippingLimits(interval_s=0.01)) as shipper:
        shipper.feed(chunk("password: "))
        await eventually(lambda: relay.lines == ["password: \n"])


@pytest.mark.parametrize("status", [500, 503, 429, 408])
async def test_trouble_of_the_master_is_waited_out(relay: StandInRelay, status: int) -> None:
    relay.refuse[LOGS] = [status]
    async with shipping(relay, ShippingLimits(interval_s=0.01)) as shipper:
        shipper.feed(chunk("x\n"))
    assert relay.lines == ["x\n"]


async def test_a_batch_that_is_too_large_is_sent_in_parts(relay: StandInRelay) -> None:
    relay.refuse[LOGS] = [413, 413]
    async with shipping(relay, ShippingLimits(interval_s=0.05)) as shipper:
        shipper.feed(chunk("1\n2\n3\n4\n"))
    assert relay.lines == ["1\n", "2\n", "3\n", "4\n"]
