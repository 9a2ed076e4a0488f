"""Commands, shells and notebooks while their agent is away, comes back, or does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.master.agents.standin import StandInAgent, ack
from tests.master.asking import eventually, wait_for_end, wait_for_state
from tests.master.running import MasterUnderTest, Prepared, master_running

KINDS = pytest.mark.parametrize("kind", ["command", "shell", "notebook"])
BODIES: dict[str, Any] = {
    "command": {"config": {"entrypoint": ["sleep 1000"]}},
    "shell": {"config": {}},
    "notebook": {"config": {}},
}


@asynccontextmanager
async def service_running() -> AsyncGenerator[int]:
    """Run what greets as sshd does and answers as an HTTP server does; yields its port."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(0.2):
                await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        except TimeoutError:
            writer.write(b"SSH-2.0-x\r\n")
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def start(
    master: MasterUnderTest, agent: StandInAgent, kind: str, port: int
) -> tuple[str, dict[str, Any]]:
    """Start a task, whose service is at *port*; return its id and the order to start it."""
    made = (await master.call("POST", f"/{kind}s", BODIES[kind])).json[kind]
    order = await agent.next_start()
    exposed = order["Spec"]["RunSpec"]["ContainerConfig"].get("ExposedPorts") or {}
    ports = {one.partition("/")[0]: port for one in exposed}
    await agent.run(order, ports=ports, address="127.0.0.1")
    await wait_for_state(master, made["id"], "RUNNING")
    return made["id"], order


async def is_ready(master: MasterUnderTest, task_id: str) -> bool:
    """Whether the task's service has been seen to answer."""
    task = (await master.call("GET", f"/tasks/{task_id}")).json["task"]
    return bool(task["allocations"][0].get("isReady"))


async def reach(master: MasterUnderTest, task_id: str) -> int:
    """Ask the service through the master; return the status."""
    headers = {**master.auth(), "Connection": "Upgrade", "Upgrade": "websocket"}
    headers |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "MDAwMDAwMDAwMDAwMDAwMA=="}
    async with master.session.get(f"{master.url}/proxy/{task_id}/", headers=headers) as answer:
        return answer.status


@KINDS
async def test_an_agent_that_comes_back_finds_them_as_they_were(
    master: MasterUnderTest, kind: str
) -> None:
    agent = StandInAgent(master.url)
    async with service_running() as port:
        async with agent.connected():
            task_id, order = await start(master, agent, kind, port)
            if kind != "command":
                await eventually(lambda: is_ready(master, task_id))
            await agent.drop()
        away = await reach(master, task_id) if kind == "shell" else None
        async with agent.connected(reconnect=True, acks=[ack(order, "RUNNING")]):
            await wait_for_state(master, task_id, "RUNNING")
            still_ready = await is_ready(master, task_id)
            back = await reach(master, task_id) if kind == "shell" else None
            await master.call("POST", f"/{kind}s/{task_id}/kill", {})
            assert await agent.next_kill() == order["Container"]["id"]
            await agent.end(order, 137)
            task = await wait_for_end(master, task_id)
        after = await reach(master, task_id) if kind == "shell" else None

    assert still_ready == (kind != "command")
    assert (away, back, after) == ((101, 101, 404) if kind == "shell" else (None, None, None))
    assert task["allocations"][0]["state"] == "STATE_TERMINATED"


@KINDS
async def test_an_agent_that_stays_away_takes_them_with_it(
    prepared: Prepared, tmp_path: Path, kind: str
) -> None:
    manager = {"type": "agent", "agent_reconnect_wait": "200ms"}
    async with (
        master_running(prepared, tmp_path / "data", resource_manager=manager) as master,
        service_running() as port,
    ):
        agent = StandInAgent(master.url)
        async with agent.connected():
            task_id, _ = await start(master, agent, kind, port)
        task = await wait_for_end(master, task_id)
        shown = (await master.call("GET", f"/{kind}s/{task_id}")).json[kind]
        after = await reach(master, task_id)

    assert "agent closed with allocated containers" in task["allocations"][0]["exitReason"]
    assert shown["state"] == "STATE_TERMINATED"
    assert "agent closed with allocated containers" in shown["exitStatus"]
    assert after == 404
