"""The agent stops: its containers go on, or with `drain_on_stop` they end, and the master knows."""

from __future__ import annotations

import pytest
from aiohttp import web

from tests.agent.conftest import AgentProcess
from tests.agent.stand_in import MUST_RESTART, StandInMaster

GRACE_S = "20"


@pytest.fixture
async def draining(agent: AgentProcess, master: StandInMaster) -> AgentProcess:
    """An agent that ends its containers when it stops."""
    agent.settings |= {"drain_on_stop": "true", "drain_grace_s": GRACE_S}
    await agent.start()
    await master.connected()
    return agent


async def test_a_container_has_its_time_and_its_last_words(
    draining: AgentProcess, master: StandInMaster
) -> None:
    script = "trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    container_id = await master.start("/bin/sh", "-c", script)
    seen = master.containers[container_id]
    await master.until(lambda: seen.output() == ["up"])
    assert await draining.end() == 0
    assert seen.has_ended
    assert seen.output() == ["up", "saved"]
    assert seen.failure is None
    assert draining.records() == []


async def test_one_that_does_not_end_is_killed_and_it_is_not_its_own_fault(
    agent: AgentProcess, master: StandInMaster
) -> None:
    agent.settings |= {"drain_on_stop": "true", "drain_grace_s": "0.3"}
    await agent.start()
    await master.connected()
    script = "trap '' TERM; echo up; while :; do sleep 0.1; done"
    container_id = await master.start("/bin/sh", "-c", script)
    seen = master.containers[container_id]
    await master.until(lambda: seen.output() == ["up"])
    assert await agent.end() == 0
    assert seen.failure is not None
    assert seen.failure["FailureType"] == "agent failed while the container was running"
    assert seen.failure["ErrMsg"] == (
        "the agent was stopped and ended its containers:"
        " container failed with non-zero exit code: 137"
    )
    assert seen.failure["ExitCode"] == 137


async def test_nothing_is_started_while_the_containers_end(
    draining: AgentProcess, master: StandInMaster
) -> None:
    script = "trap 'echo asked; sleep 1; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    slow = await master.start("/bin/sh", "-c", script)
    await master.until(lambda: master.containers[slow].output() == ["up"])
    ending = draining.end_soon()
    await master.until(lambda: master.containers[slow].output() == ["up", "asked"])
    seen = await master.ended(await master.start("/bin/true", slots=0))
    assert seen.failure is not None
    assert seen.failure["FailureType"] == "agent failed to launch the container"
    assert seen.failure["ErrMsg"].startswith("the agent was stopped")
    assert await ending == 0
    assert master.containers[slow].failure is None


async def test_ends_that_the_master_was_not_there_for_are_told_at_the_next_start(
    draining: AgentProcess, master: StandInMaster
) -> None:
    script = "trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    container_id = await master.start("/bin/sh", "-c", script)
    seen = master.containers[container_id]
    await master.until(lambda: seen.output() == ["up"])
    master.refusals.extend(web.Response(status=503) for _ in range(100))
    await master.drop()
    assert await draining.end() == 0
    assert not seen.has_ended
    master.refusals.clear()
    await draining.start()
    await master.ended(container_id)
    assert seen.output_by_place() == ["up", "saved"]
    assert seen.failure is None


async def test_without_the_setting_the_containers_go_on(
    agent: AgentProcess, master: StandInMaster
) -> None:
    await agent.start()
    await master.connected()
    container_id = await master.start("/bin/sh", "-c", "trap 'exit 3' TERM; sleep 1000 & wait")
    seen = await master.reached(container_id, "RUNNING")
    assert await agent.end() == 0
    await agent.start()
    await master.connected(2)
    assert seen.states == ["PULLING", "STARTING", "RUNNING"]
    await master.signal(container_id)
    await master.ended(container_id)
    assert (seen.failure or {})["ExitCode"] == 137


async def test_a_master_that_gives_the_agent_up_meanwhile_keeps_no_container_alive(
    agent: AgentProcess, master: StandInMaster
) -> None:
    agent.settings |= {"drain_on_stop": "true", "drain_grace_s": "1"}
    await agent.start()
    await master.connected()
    script = "trap 'echo asked' TERM; echo up; while :; do sleep 0.1; done"
    container_id = await master.start("/bin/sh", "-c", script)
    seen = master.containers[container_id]
    await master.until(lambda: seen.output() == ["up"])
    ending = agent.end_soon()
    await master.until(lambda: seen.output() == ["up", "asked"])
    master.refusals.append(web.json_response({"message": MUST_RESTART}, status=500))
    await master.drop()
    assert await ending == 0
    await agent.start()
    await master.ended(container_id)
    assert (seen.failure or {})["FailureType"] == "agent failed while the container was running"
