"""The real agent, a task in the sandbox, and a master that takes its lines by gRPC."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.agent.conftest import AgentProcess
from tests.agent.logs.stand_in import TOKEN, LogApi
from tests.agent.stand_in import StandInMaster

WITH_TOKEN: dict[str, Any] = {
    "environment": [
        f"DET_SESSION_TOKEN={TOKEN}",
        "DET_ALLOCATION_ID=task-7.1",
        "DET_TASK_ID=task-7",
    ]
}
_writer = """
import sys
for number in range(int(sys.argv[1])):
    sys.stdout.write(f"line {number}\\n")
"""


def writer(count: int) -> tuple[str, ...]:
    return (sys.executable, "-c", _writer, str(count))


@pytest.fixture
async def master() -> StandInMaster:
    """Overrides the one of all agent tests: its port leads to `api`, too."""
    return StandInMaster()


@pytest.fixture
async def api(master: StandInMaster) -> AsyncIterator[LogApi]:
    async with LogApi(routes=[web.get("/agents", master.serve)]) as api:
        master.port = api.port
        yield api
        await master.drop()
    assert master.faults == []


@pytest.fixture
async def running(api: LogApi, agent: AgentProcess, master: StandInMaster) -> AgentProcess:
    await agent.start()
    await master.connected()
    return agent


async def has_lines(api: LogApi, count: int, *, limit_s: float = 60) -> None:
    async with asyncio.timeout(limit_s):
        while len(api.lines) < count:  # noqa: ASYNC110 (another process sends them)
            await asyncio.sleep(0.02)


async def test_output_is_delivered_by_the_tasks_token_before_its_end_is_told(
    running: AgentProcess, api: LogApi, master: StandInMaster
) -> None:
    script = "echo out; echo '[rank=1] WARNING: err' >&2; printf 'no end'; exit 3"
    container_id = await master.start("/bin/sh", "-c", script, **WITH_TOKEN)
    await master.until(lambda: master.containers[container_id].has_ended)
    assert sorted(api.texts) == ["err", "no end", "out"]
    line = next(line for line in api.lines if line.log == "err\n")
    assert (line.task_id, line.allocation_id, line.rank_id) == ("task-7", "task-7.1", 1)
    assert (line.container_id, line.agent_id) == (container_id, "node one")
    assert (line.stdtype, line.source) == ("stderr", "task")
    assert set(api.calls) == {"grpc"}
    assert master.containers[container_id].output() == []
    await running.forgot_all()
    assert list((running.state_dir / "containers").iterdir()) == []


async def test_an_agent_that_is_killed_in_a_burst_repeats_and_loses_nothing(
    running: AgentProcess, api: LogApi, master: StandInMaster
) -> None:
    count = 80_000
    container_id = await master.start(*writer(count), **WITH_TOKEN)
    for part in (1, 2, 3, 4):
        await has_lines(api, part * count // 5)
        hellos = len(master.hellos)
        await running.end(signal.SIGKILL)
        await running.start()
        await master.connected(hellos + 1)
    await master.until(lambda: master.containers[container_id].has_ended)
    assert api.texts == [f"line {number}" for number in range(count)]
    assert master.containers[container_id].failure is None


async def test_a_stopped_agent_repeats_nothing(
    running: AgentProcess, api: LogApi, master: StandInMaster
) -> None:
    count = 50_000
    container_id = await master.start(*writer(count), **WITH_TOKEN)
    await has_lines(api, count // 4)
    await running.end()
    await running.start()
    await master.until(lambda: master.containers[container_id].has_ended)
    assert api.texts == [f"line {number}" for number in range(count)]


async def test_a_token_that_died_leaves_the_rest_to_the_websocket(
    running: AgentProcess, api: LogApi, master: StandInMaster
) -> None:
    script = "trap 'echo after; exit' USR1; echo before; while :; do sleep 0.05; done"
    container_id = await master.start("/bin/sh", "-c", script, **WITH_TOKEN)
    await has_lines(api, 1)
    api.token = "another"
    await master.signal(container_id, signal.SIGUSR1)
    await master.until(lambda: master.containers[container_id].has_ended)
    assert api.texts == ["before"]
    assert master.containers[container_id].output() == ["after"]
    assert "the rest of the output comes by way of the agent" in (
        master.containers[container_id].notes()
    )


async def test_a_lost_master_gets_it_all_when_it_is_back(
    running: AgentProcess, api: LogApi, master: StandInMaster, tmp_path: Path
) -> None:
    count = 50_000
    container_id = await master.start(*writer(count), **WITH_TOKEN)
    await has_lines(api, 1)
    await master.drop()
    await api.stop()
    await asyncio.sleep(0.5)
    await api.start()
    await master.until(lambda: master.containers[container_id].has_ended)
    assert api.texts == [f"line {number}" for number in range(count)]
