"""Tasks over several agents: placed as a whole, and ended as one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tests.master.agents.standin import StandInAgent
from tests.master.asking import create, eventually, get_task, wait_for_end, wait_for_state
from tests.master.running import MasterUnderTest, Prepared, master_running


def wish(slots: int) -> str:
    """Write a generic task that wants so many slots."""
    return f"entrypoint: [x]\nresources: {{slots: {slots}}}\n"


async def connect(stack: AsyncExitStack, master: MasterUnderTest, **slots: int) -> list[Any]:
    """Connect agents with so many slots each."""
    agents = [StandInAgent(master.url, name, slots=count) for name, count in slots.items()]
    for agent in agents:
        await stack.enter_async_context(agent.connected())

    async def all_there() -> bool:
        answer = await master.call("GET", "/agents")
        found = [one for one in answer.json["agents"] if one["slots"]]
        return len(found) == len(agents)

    await eventually(all_there)
    return agents


async def meet(master: MasterUnderTest, start: Mapping[str, Any]) -> Any:
    """Meet the other containers as the one of *start* does."""
    texts = start["Spec"]["RunSpec"]["ContainerConfig"]["Env"]
    variables = dict(text.split("=", 1) for text in texts)
    path = f"/allocations/{variables['DET_ALLOCATION_ID']}/resources/{start['Container']['id']}"
    answer = await master.call("GET", f"{path}/rendezvous", token=variables["DET_SESSION_TOKEN"])
    assert answer.status == 200, answer.body
    return answer.json["rendezvousInfo"]


async def test_agents_of_different_sizes_where_that_is_set(
    prepared: Prepared, tmp_path: Path
) -> None:
    manager = {"type": "agent", "scheduler": {"allow_heterogeneous_fits": True}}
    async with (
        master_running(prepared, tmp_path / "data", resource_manager=manager) as master,
        AsyncExitStack() as stack,
    ):
        big, small = await connect(stack, master, big=4, small=2)
        await create(master, wish(6))
        starts = [await agent.next_start() for agent in (small, big)]
        await small.run(starts[0])
        await big.run(starts[1])
        met = await asyncio.gather(*(meet(master, start) for start in starts))

    assert [len(start["Container"]["devices"]) for start in starts] == [2, 4]
    assert [one["rank"] for one in met] == [0, 1], "the smallest share is the chief"
    assert [one["slots"] for one in met] == [[2, 4], [2, 4]]


async def test_sizes_are_not_mixed_by_themselves(master: MasterUnderTest) -> None:
    async with AsyncExitStack() as stack:
        await connect(stack, master, big=4, small=2)

        answer = await master.call("POST", "/generic-tasks", {"config": wish(6)})

    assert answer.status == 400
    assert "allow_heterogeneous_fits" in answer.error["error"]


async def test_a_gang_holds_nothing_until_all_of_it_has_room(master: MasterUnderTest) -> None:
    """So smaller tasks go on meanwhile, and two gangs cannot wait for each other's halves."""
    async with AsyncExitStack() as stack:
        first, second = await connect(stack, master, a=2, b=2)
        alone = await create(master, wish(2))
        holder = await asyncio.wait_for(_first_start(first, second), 60)
        gangs = [await create(master, wish(4)) for _ in range(2)]
        other = await create(master, wish(2))
        passing = await asyncio.wait_for(_first_start(first, second), 60)
        states = [(await get_task(master, gang))["allocations"][0]["state"] for gang in gangs]
        for agent, start in (holder, passing):
            await agent.run(start)
            await agent.end(start)
        for task_id in (alone, other):
            await wait_for_end(master, task_id)
        starts = [await agent.next_start() for agent in (first, second)]
        waiting = (await get_task(master, gangs[1]))["allocations"][0]["state"]

    assert holder[0] is not passing[0]
    assert states == ["STATE_QUEUED"] * 2
    assert {_task_of(start) for start in starts} == {gangs[0]}
    assert waiting == "STATE_QUEUED"


async def test_a_gang_ends_with_the_agent_of_one_of_its_containers(
    prepared: Prepared, tmp_path: Path
) -> None:
    manager = {"type": "agent", "agent_reconnect_wait": "200ms"}
    async with (
        master_running(prepared, tmp_path / "data", resource_manager=manager) as master,
        AsyncExitStack() as stack,
    ):
        lost, kept = await connect(stack, master, lost=2, kept=2)
        task_id = await create(master, wish(4))
        starts = [await agent.next_start() for agent in (lost, kept)]
        for agent, start in zip((lost, kept), starts, strict=True):
            await agent.run(start)
        await wait_for_state(master, task_id, "RUNNING")
        await lost.drop()
        killed = await kept.next_kill()
        await kept.end(starts[1], 137)
        await wait_for_state(master, task_id, "QUEUED", run=2)
        runs = (await get_task(master, task_id))["allocations"]

    assert killed == starts[1]["Container"]["id"]
    reasons = {run["allocationId"]: run.get("exitReason", "") for run in runs}
    assert "agent closed with allocated containers" in reasons[f"{task_id}.1"]


async def test_a_draining_agent_is_no_part_of_a_gang(master: MasterUnderTest) -> None:
    async with AsyncExitStack() as stack:
        agents = await connect(stack, master, a=2, b=2, c=2)
        assert (await master.call("POST", "/agents/b/disable", {"drain": True})).status == 200
        task_id = await create(master, wish(4))
        starts = [await agents[0].next_start(), await agents[2].next_start()]
        run = (await get_task(master, task_id))["allocations"][0]

    assert {_task_of(start) for start in starts} == {task_id}
    assert run["allocationId"] == f"{task_id}.1"
    assert agents[1].starts.empty()


def _task_of(start: Mapping[str, Any]) -> str:
    texts = start["Spec"]["RunSpec"]["ContainerConfig"]["Env"]
    return str(dict(text.split("=", 1) for text in texts)["DET_TASK_ID"])


async def _first_start(*agents: StandInAgent) -> tuple[StandInAgent, dict[str, Any]]:
    """Wait for the next order to any of the agents."""
    while True:
        for agent in agents:
            if not agent.starts.empty():
                return agent, agent.starts.get_nowait()
        await asyncio.sleep(0.01)
