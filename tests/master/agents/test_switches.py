"""Enabling, disabling and draining by people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.master.agents.standin import StandInAgent
from tests.master.asking import create, eventually, launch, wait_for_end, wait_for_state
from tests.master.running import MasterUnderTest, Prepared, master_running


async def get_agent(master: MasterUnderTest) -> dict[str, Any]:
    """Fetch the only agent."""
    agent: dict[str, Any] = (await master.call("GET", "/agents/agent-a")).json["agent"]
    return agent


async def ready(master: MasterUnderTest) -> bool:
    """Whether the agent has said what it has, and may be used."""
    answer = await master.call("GET", "/agents/agent-a")
    if answer.status != 200:
        return False
    return any(slot["enabled"] for slot in answer.json["agent"]["slots"].values())


async def test_a_disabled_slot_is_not_used(master: MasterUnderTest) -> None:
    async with StandInAgent(master.url, slots=2).connected() as agent:
        await eventually(lambda: ready(master))
        answer = await master.call("POST", "/agents/agent-a/slots/0/disable")
        assert answer.json["slot"]["enabled"] is False
        await launch(master, {"entrypoint": ["x"]})
        start = await agent.next_start()
        assert start["Container"]["devices"] == [agent.devices[1]]
        waits = await launch(master, {"entrypoint": ["y"]})
        await wait_for_state(master, waits, "QUEUED")
        stats = (await get_agent(master))["slotStats"]["typeStats"]["TYPE_CUDA"]
        assert (stats["total"], stats["disabled"]) == (2, 1)
        enabled = await master.call("POST", "/agents/agent-a/slots/000/enable")
        shown = enabled.json["slot"]
        assert (shown["id"], shown["enabled"], shown["draining"]) == ("0", True, False)
        assert (await agent.next_start())["Container"]["devices"] == [agent.devices[0]]


async def test_draining_a_slot_lets_its_container_go_on(master: MasterUnderTest) -> None:
    async with StandInAgent(master.url, slots=1).connected() as agent:
        await eventually(lambda: ready(master))
        task_id = await launch(master, {"entrypoint": ["x"]})
        start = await agent.next_start()
        await agent.run(start)
        answer = await master.call("POST", "/agents/agent-a/slots/0/disable", {"drain": True})
        assert answer.json["slot"]["draining"] is True
        assert answer.json["slot"]["container"]["id"] == start["Container"]["id"]
        waits = await launch(master, {"entrypoint": ["y"]})
        await agent.end(start)
        assert (await wait_for_end(master, task_id))["allocations"][0]["statusCode"] == 0
        await wait_for_state(master, waits, "QUEUED")
        assert agent.kills.empty()
        assert agent.starts.empty()


async def test_disabling_an_agent_ends_what_runs_there(master: MasterUnderTest) -> None:
    async with StandInAgent(master.url).connected() as agent:
        await eventually(lambda: ready(master))
        command = await launch(master, {"entrypoint": ["x"]})
        aux = await launch(master, {"entrypoint": ["x"], "resources": {"slots": 0}})
        generic = await create(master, "entrypoint: [sleep, '1000']")
        starts = [await agent.next_start() for _ in range(3)]
        for start in starts:
            await agent.run(start)
        await wait_for_state(master, generic, "RUNNING")
        answer = await master.call("POST", "/agents/agent-a/disable")
        assert (answer.json["agent"]["enabled"], answer.json["agent"]["draining"]) == (False, False)
        assert {await agent.next_kill() for _ in range(3)} == {
            start["Container"]["id"] for start in starts
        }
        for start in starts:
            await agent.end(start, 137)
        for task_id in (command, aux):
            task = await wait_for_end(master, task_id)
            assert "agent disabled" in task["allocations"][0]["exitReason"]
        await wait_for_state(master, generic, "QUEUED", run=2)
        assert (await master.call("POST", "/agents/agent-a/enable")).status == 200
        again = await agent.next_start()
        assert again["Container"]["description"] == "generic-task"


async def test_draining_an_agent_lets_its_containers_go_on(master: MasterUnderTest) -> None:
    async with StandInAgent(master.url).connected() as agent:
        await eventually(lambda: ready(master))
        task_id = await launch(master, {"entrypoint": ["x"]})
        start = await agent.next_start()
        await agent.run(start)
        answer = await master.call("POST", "/agents/agent-a/disable", {"drain": True})
        assert (answer.json["agent"]["enabled"], answer.json["agent"]["draining"]) == (False, True)
        waits = await launch(master, {"entrypoint": ["y"], "resources": {"slots": 0}})
        await agent.end(start)
        assert (await wait_for_end(master, task_id))["allocations"][0]["statusCode"] == 0
        await wait_for_state(master, waits, "QUEUED")
        await master.call("POST", "/agents/agent-a/enable")
        assert (await agent.next_start())["Container"]["description"] == f"cmd-{waits}"


async def test_what_was_switched_survives_blips_and_restarts(
    prepared: Prepared, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with master_running(prepared, data) as master:
        agent = StandInAgent(master.url)
        async with agent.connected():
            await eventually(lambda: ready(master))
            await master.call("POST", "/agents/agent-a/slots/1/disable")
            await master.call("POST", "/agents/agent-a/slots/2/disable", {"drain": True})
            await agent.drop()
        async with agent.connected(reconnect=True):

            async def is_as_before() -> bool:
                slots = (await master.call("GET", "/agents/agent-a/slots")).json["slots"]
                seen = [(slot["enabled"], slot["draining"]) for slot in slots]
                return seen == [(True, False), (False, False), (False, True), (True, False)]

            await eventually(is_as_before)
    after = Prepared(data, prepared.admin_token, prepared.user_token)
    async with master_running(after, tmp_path / "again") as master:
        agent.url = master.url
        async with agent.connected():
            assert agent.options["ContainersToReattach"] == []
            await eventually(is_as_before)
            await master.call("POST", "/agents/agent-a/disable")
        again = Prepared(tmp_path / "again", prepared.admin_token, prepared.user_token)
    async with master_running(again, tmp_path / "third") as master:
        agent.url = master.url
        async with agent.connected():

            async def is_disabled() -> bool:
                shown = await get_agent(master)
                return not shown["enabled"] and not shown["draining"]

            await eventually(is_disabled)
            await master.call("POST", "/agents/agent-a/enable")
            shown = await get_agent(master)
            assert [slot["enabled"] for slot in shown["slots"].values()] == [True] * 4


async def test_looking_at_a_slot_changes_nothing(master: MasterUnderTest) -> None:
    async with StandInAgent(master.url).connected():
        await eventually(lambda: ready(master))
        before = await get_agent(master)
        slot = await master.call("GET", "/agents/agent-a/slots/3")
        assert slot.json["slot"]["id"] == "3"
        assert await get_agent(master) == before


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/agents/agent-a/slots/9", 404, "agent-a/9"),
        ("/agents/agent-a/slots/first", 400, "invalid slot id: first"),
        ("/agents/other/slots/0", 404, "agent 'other' not found"),
    ],
)
async def test_slots_that_are_not_there(
    master: MasterUnderTest, path: str, status: int, text: str
) -> None:
    async with StandInAgent(master.url).connected():
        await eventually(lambda: ready(master))
        answers = [
            await master.call("GET", path),
            await master.call("POST", path + "/disable"),
            await master.call("POST", path + "/enable"),
        ]
    for answer in answers:
        assert answer.status == status
        assert text in answer.error["error"]


async def test_only_administrators_may_switch(master: MasterUnderTest) -> None:
    async with StandInAgent(master.url).connected():
        await eventually(lambda: ready(master))
        for path in ("enable", "disable", "slots/0/enable", "slots/0/disable"):
            refused = await master.call("POST", f"/agents/agent-a/{path}", token="user")
            assert refused.status == 403
        assert (await master.call("GET", "/agents", token="user")).status == 200


async def test_pools_say_what_is_used(prepared: Prepared, tmp_path: Path) -> None:
    pools = [{"pool_name": "default"}, {"pool_name": "other", "description": "for later"}]
    async with (
        master_running(prepared, tmp_path / "data", resource_pools=pools) as master,
        StandInAgent(master.url, pool="other").connected() as agent,
    ):
        await eventually(lambda: ready(master))
        config = {"entrypoint": ["x"], "resources": {"slots": 3, "resource_pool": "other"}}
        await launch(master, config)
        await agent.next_start()
        shown = (await master.call("GET", "/resource-pools")).json["resourcePools"]
    by_name = {pool["name"]: pool for pool in shown}
    assert [pool["defaultComputePool"] for pool in shown] == [True, False]
    other = by_name["other"]
    assert (other["numAgents"], other["slotsAvailable"], other["slotsUsed"]) == (1, 4, 3)
    assert (other["slotType"], other["schedulerType"]) == ("TYPE_CUDA", "SCHEDULER_TYPE_PRIORITY")
    assert other["stats"] == {"queuedCount": 0, "scheduledCount": 1}
    assert (by_name["default"]["numAgents"], other["description"]) == (0, "for later")
