"""Commands on an agent, from launch to end."""

from __future__ import annotations

from tests.master.agents.standin import StandInAgent
from tests.master.asking import launch, read_log, wait_for_end, wait_for_state
from tests.master.running import MasterUnderTest


async def test_a_command_runs_and_ends(master: MasterUnderTest) -> None:
    async with StandInAgent(master.url).connected() as agent:
        task_id = await launch(master, {"entrypoint": ["echo hello"]})
        start = await agent.next_start()
        await wait_for_state(master, task_id, "QUEUED")
        await agent.run(start)
        await wait_for_state(master, task_id, "RUNNING")
        await agent.print(start, "hello")
        await agent.end(start)
        task = await wait_for_end(master, task_id)
    assert task["allocations"][0]["statusCode"] == 0
    name = (await master.call("GET", f"/commands/{task_id}")).json["command"]["description"]
    assert await read_log(master, task_id) == [
        f"Scheduling {name} (id: {task_id}.1)",
        f"{name} was assigned to an agent",
        f"Resources for {name} have started",
        "hello",
        "resources exited successfully with a zero exit code",
        f"{name} was terminated: allocation stopped early after all containers exited",
    ]
