"""Dialling in: who is let in, who is not, and what a broken connection costs."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.master.agents.standin import GONE, MISSING, Dismissed, StandInAgent, ack
from tests.master.asking import (
    create,
    eventually,
    get_task,
    launch,
    read_log,
    wait_for_end,
    wait_for_line,
    wait_for_state,
)
from tests.master.experiments.faults import FILE, heal, refuse
from tests.master.running import MasterUnderTest, Prepared, master_running, until


async def list_agents(master: MasterUnderTest) -> dict[str, Any]:
    """Fetch the agents, by their ids."""
    answer = await master.call("GET", "/agents")
    return {agent["id"]: agent for agent in answer.json["agents"]}


@pytest.fixture
async def impatient(
    prepared: Prepared, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncGenerator[MasterUnderTest]:
    """Run a master that waits for nothing longer than a moment of that which a test names."""
    manager = {"type": "agent", request.param: "200ms"}
    async with master_running(prepared, tmp_path / "data", resource_manager=manager) as running:
        yield running


async def test_the_first_message_is_the_options(master: MasterUnderTest) -> None:
    async with StandInAgent(master.url).connected() as agent:
        assert agent.options["ContainersToReattach"] is None
        assert agent.options["MasterInfo"]["version"] == "0.38.1"

        async def ready() -> bool:
            return len((await list_agents(master))["agent-a"]["slots"]) == 4

        await eventually(ready)
        shown = (await list_agents(master))["agent-a"]
        assert shown["addresses"] == ["node-a"]
        assert shown["resourcePools"] == ["default"]
        assert shown["slots"]["/agents/agent-a/slots/3"]["device"]["type"] == "TYPE_CUDA"
        assert shown["slotStats"]["typeStats"]["TYPE_CUDA"]["total"] == 4


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ({"id": ""}, 500, "invalid agent id specified: "),
        (
            {"reconnect": "maybe"},
            500,
            'parsing reconnect query param: strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
        (
            {"resource_pool": "nope"},
            500,
            "cannot find specified resource pool nope for agent agent-a",
        ),
        ({"reconnect": "true"}, 500, "agent is past reconnect period, it must restart"),
    ],
)
async def test_who_is_refused_is_told_why(
    master: MasterUnderTest, query: dict[str, str], status: int, message: str
) -> None:
    full = {"id": "agent-a", "version": "1", "resource_pool": "", "reconnect": "false"} | query
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    async with master.session.get(f"{master.url}/agents", params=full, headers=headers) as answer:
        assert (answer.status, await answer.json()) == (status, {"message": message})


async def test_what_is_no_websocket_is_refused(master: MasterUnderTest) -> None:
    async with master.session.get(f"{master.url}/agents") as answer:
        assert (answer.status, await answer.json()) == (400, {"message": "Bad Request"})


async def test_a_second_agent_of_one_name_is_refused(master: MasterUnderTest) -> None:
    async with StandInAgent(master.url).connected():
        # The first words are the Go master's, the rest says who the first agent is.
        first = r"agent: websocket already connected, from 127\.0\.0\.1 \(host node-a\)"
        with pytest.raises(Dismissed, match=first):
            async with StandInAgent(master.url).connected():
                pass
        assert "agent-a" in await list_agents(master)


async def test_a_malformed_handshake_costs_a_waiting_agent_nothing(
    master: MasterUnderTest,
) -> None:
    agent = StandInAgent(master.url)
    async with agent.connected():
        task_id = await launch(master, {"entrypoint": ["sleep 1000"]})
        start = await agent.next_start()
        await agent.run(start)
        await wait_for_state(master, task_id, "RUNNING")
    query = {"id": "agent-a", "reconnect": "true"}
    headers = {"Upgrade": "websocket", "Origin": "http://elsewhere"}
    async with master.session.get(f"{master.url}/agents", params=query, headers=headers) as answer:
        assert answer.status == 403
    headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
    async with master.session.get(f"{master.url}/agents", params=query, headers=headers) as answer:
        assert answer.status == 400
    async with agent.connected(reconnect=True, acks=[ack(start, "RUNNING")]):
        assert [one["Container"]["id"] for one in agent.options["ContainersToReattach"]] == [
            start["Container"]["id"]
        ]
        await agent.end(start)
        assert (await wait_for_end(master, task_id))["allocations"][0]["statusCode"] == 0


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "null",
        "not json",
        json.dumps({"ContainerLog": {"ContainerID": "x"}}),
        json.dumps(
            {
                "ContainerStateChanged": {
                    "Container": {"id": "x", "state": "RUNNING"},
                    "ContainerStarted": None,
                }
            }
        ),
    ],
)
async def test_a_hostile_message_costs_only_its_connection(
    master: MasterUnderTest, text: str
) -> None:
    async with StandInAgent(master.url, "bad").connected(acks=None) as agent:
        await agent.socket.send_str(text)
        closed = await agent.socket.receive(timeout=60)
        assert closed.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)

    async def gone() -> bool:
        return "bad" not in await list_agents(master)

    await eventually(gone)


async def test_a_blip_with_the_container_still_running(master: MasterUnderTest) -> None:
    agent = StandInAgent(master.url)
    async with agent.connected():
        task_id = await launch(master, {"entrypoint": ["sleep 1000"]})
        start = await agent.next_start()
        await agent.run(start)
        await wait_for_state(master, task_id, "RUNNING")
        await agent.drop()

        async def away() -> bool:
            shown = (await list_agents(master))["agent-a"]
            return not shown["enabled"] and bool(shown["draining"])

        await eventually(away)
    async with agent.connected(reconnect=True, acks=[ack(start, "RUNNING")]):
        expected = agent.options["ContainersToReattach"]
        assert [one["Container"]["state"] for one in expected] == ["RUNNING"]

        async def back() -> bool:
            return bool((await list_agents(master))["agent-a"]["enabled"])

        await eventually(back)
        await agent.end(start, 4)
        task = await wait_for_end(master, task_id)
    assert task["allocations"][0]["statusCode"] == 4


async def test_progress_during_a_blip_is_progress(master: MasterUnderTest) -> None:
    agent = StandInAgent(master.url)
    async with agent.connected():
        task_id = await launch(master, {"entrypoint": ["sleep 1000"]})
        start = await agent.next_start()
        await agent.change(start, "PULLING")
        await wait_for_state(master, task_id, "PULLING")
        await agent.drop()
    async with agent.connected(reconnect=True, acks=[ack(start, "RUNNING")]):
        assert agent.options["ContainersToReattach"][0]["Container"]["state"] == ""
        await wait_for_state(master, task_id, "RUNNING")
        await agent.change(start, "RUNNING")
        await agent.end(start)
        assert (await wait_for_end(master, task_id))["allocations"][0]["statusCode"] == 0


async def test_an_exit_during_a_blip_keeps_its_code(master: MasterUnderTest) -> None:
    agent = StandInAgent(master.url)
    async with agent.connected():
        task_id = await launch(master, {"entrypoint": ["false"]})
        start = await agent.next_start()
        await agent.run(start)
        await wait_for_state(master, task_id, "RUNNING")
        await agent.drop()
    failure = {
        "FailureType": "container failed with non-zero exit code",
        "ErrMsg": "container failed with non-zero exit code: 9",
        "ExitCode": 9,
    }
    async with agent.connected(reconnect=True, acks=[ack(start, "TERMINATED", failure)]):
        task = await wait_for_end(master, task_id)
    assert task["allocations"][0]["statusCode"] == 9


async def test_a_start_that_got_lost_is_sent_again(master: MasterUnderTest) -> None:
    agent = StandInAgent(master.url)
    async with agent.connected():
        task_id = await launch(master, {"entrypoint": ["true"]})
        start = await agent.next_start()
        await agent.drop()
    async with agent.connected(reconnect=True, acks=[ack(start, "", GONE)]):
        again = await agent.next_start()
        assert again == start
        await agent.run(again)
        await agent.end(again)
        assert (await wait_for_end(master, task_id))["allocations"][0]["statusCode"] == 0


async def test_a_kill_while_the_agent_is_away_reaches_it(master: MasterUnderTest) -> None:
    agent = StandInAgent(master.url)
    async with agent.connected():
        task_id = await launch(master, {"entrypoint": ["sleep 1000"]})
        start = await agent.next_start()
        await agent.run(start)
        await wait_for_state(master, task_id, "RUNNING")
        await agent.drop()
    assert (await master.call("POST", f"/commands/{task_id}/kill")).status == 200
    async with agent.connected(reconnect=True, acks=[ack(start, "RUNNING")]):
        assert await agent.next_kill() == start["Container"]["id"]
        await agent.end(start, 137)
        await wait_for_end(master, task_id)
    command = (await master.call("GET", f"/commands/{task_id}")).json["command"]
    assert command["exitStatus"] == "killed"


@pytest.mark.parametrize("impatient", ["agent_reconnect_wait"], indirect=True)
async def test_an_agent_that_does_not_come_back_is_given_up(impatient: MasterUnderTest) -> None:
    agent = StandInAgent(impatient.url)
    async with agent.connected():
        command_id = await launch(impatient, {"entrypoint": ["sleep 1000"]})
        task_id = await create(impatient, "entrypoint: [sleep, '1000']")
        for _ in range(2):
            await agent.run(await agent.next_start())
        await wait_for_state(impatient, command_id, "RUNNING")
        await wait_for_state(impatient, task_id, "RUNNING")
    command = await wait_for_end(impatient, command_id)
    assert "agent closed with allocated containers" in command["allocations"][0]["exitReason"]
    await wait_for_state(impatient, task_id, "QUEUED", run=2)
    assert not await list_agents(impatient)
    with pytest.raises(Dismissed, match="it must restart"):
        async with agent.connected(reconnect=True):
            pass
    async with agent.connected():
        assert agent.options["ContainersToReattach"] is None
        assert (await agent.next_start())["Container"]["description"] == "generic-task"


async def test_an_agent_that_comes_back_with_other_devices_must_restart(
    master: MasterUnderTest,
) -> None:
    agent = StandInAgent(master.url)
    async with agent.connected():
        task_id = await launch(master, {"entrypoint": ["sleep 1000"]})
        start = await agent.next_start()
        await agent.run(start)
        await wait_for_state(master, task_id, "RUNNING")
    agent.devices = agent.devices[:2]
    async with agent.connected(reconnect=True, acks=[ack(start, "RUNNING")]):
        async with asyncio.timeout(60):
            told = await agent.shutdowns.get()
        assert told == "agent is past reconnect period, it must restart"
        await wait_for_end(master, task_id)
    async with agent.connected():

        async def back() -> bool:
            return len((await list_agents(master)).get("agent-a", {}).get("slots", {})) == 2

        await eventually(back)


@pytest.mark.parametrize("impatient", ["agent_start_wait"], indirect=True)
async def test_a_start_that_is_not_begun_is_given_up(impatient: MasterUnderTest) -> None:
    async with StandInAgent(impatient.url).connected() as agent:
        task_id = await launch(impatient, {"entrypoint": ["true"]})
        start = await agent.next_start()
        assert await agent.next_kill() == start["Container"]["id"]
        await agent.change(start, "TERMINATED", failure=MISSING, devices=False)
        task = await wait_for_end(impatient, task_id)
        assert "the agent did not begin within 0.2 s" in task["allocations"][0]["exitReason"]
        slots = (await impatient.call("GET", "/agents/agent-a/slots")).json["slots"]
        assert [slot["container"] for slot in slots] == [None] * 4


async def test_a_container_that_nobody_wants_is_ended(master: MasterUnderTest) -> None:
    async with StandInAgent(master.url).connected() as agent:
        stray = {"Container": {"id": "stray", "devices": None, "description": ""}}
        await agent.change(stray, "RUNNING")
        assert await agent.next_kill() == "stray"


async def test_lines_that_come_twice_are_kept_once(master: MasterUnderTest) -> None:
    agent = StandInAgent(master.url)
    async with agent.connected():
        task_id = await launch(master, {"entrypoint": ["true"]})
        start = await agent.next_start()
        await agent.run(start)
        await agent.print(start, "one", offset=4)
        await agent.print(start, "two", offset=8)
        await wait_for_line(master, task_id, "two")
        await agent.drop()
    async with agent.connected(reconnect=True, acks=[ack(start, "RUNNING")]):
        for text, offset in (("one", 4), ("two", 8), ("three", 14), ("three", 20)):
            await agent.print(start, text, offset=offset)
        await agent.end(start)
        await wait_for_end(master, task_id)
        await agent.print(start, "late", offset=25)
        await wait_for_line(master, task_id, "late")
    lines = await read_log(master, task_id)
    printed = [line for line in lines if line in ("one", "two", "three", "late")]
    assert printed == ["one", "two", "three", "three", "late"]


async def test_the_end_may_be_told_twice(master: MasterUnderTest) -> None:
    async with StandInAgent(master.url).connected() as agent:
        task_id = await launch(master, {"entrypoint": ["true"]})
        start = await agent.next_start()
        await agent.run(start)
        await agent.end(start, 3)
        await agent.end(start, 137)
        await wait_for_end(master, task_id)
        assert (await get_task(master, task_id))["allocations"][0]["statusCode"] == 3


async def test_an_agent_that_registers_anew_stays_known_while_the_old_one_is_still_removed(
    prepared: Prepared, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """There was no room to remove it: nothing of the new one must go with it, once there is."""
    manager = {"type": "agent", "agent_reconnect_wait": "10ms"}
    async with master_running(prepared, tmp_path / "data", resource_manager=manager) as master:
        agent = StandInAgent(master.url)
        async with agent.connected():
            task_id = await launch(master, {"entrypoint": ["x"]})
            await agent.next_start()
            await asyncio.to_thread(refuse, master.data, "DELETE ON agents")
        await until(lambda: "an agent cannot be stored; trying again" in caplog.messages)
        async with agent.connected():
            await launch(master, {"entrypoint": ["y"]})
            await agent.next_start()  # it is known again
            await asyncio.to_thread(heal, master.data)
            await wait_for_end(master, task_id)
            with closing(sqlite3.connect(master.data / FILE)) as database:
                assert database.execute("SELECT agent_id FROM agents").fetchall() == [(agent.id,)]
