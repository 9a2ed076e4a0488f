"""The master ends and comes back in the middle of things."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.master.agents.standin import GONE, StandInAgent, ack
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
from tests.master.experiments.faults import change, heal, refuse
from tests.master.running import MasterUnderTest, Prepared, master_running, until

GENERIC = "entrypoint: [sleep, '1000']\n"


class Lives:
    """The lives of one master, one after another."""

    def __init__(self, prepared: Prepared, folder: Path) -> None:
        self._last, self._folder, self._count = prepared, folder, 0

    @property
    def data(self) -> Path:
        """What the last life left; the next one begins with it."""
        return self._last.folder

    @property
    def next_data(self) -> Path:
        """Where the life that goes on, or comes next, keeps its data."""
        return self._folder / f"life-{self._count}"

    def go_back(self, data: Path) -> None:
        """Let the next life begin with a copy that was made during the last one."""
        self._last = Prepared(data, self._last.admin_token, self._last.user_token)

    @asynccontextmanager
    async def next(self, **changes: Any) -> AsyncGenerator[MasterUnderTest]:
        """Run it again with what it left."""
        self._count += 1
        data = self._folder / f"life-{self._count}"
        async with master_running(self._last, data, **changes) as master:
            yield master
        self._last = Prepared(data, self._last.admin_token, self._last.user_token)


@pytest.fixture
def lives(prepared: Prepared, tmp_path: Path) -> Lives:
    """Get a master that can be restarted."""
    return Lives(prepared, tmp_path)


async def test_a_running_task_goes_on_and_no_line_is_lost(lives: Lives) -> None:
    async with lives.next() as master:
        agent = StandInAgent(master.url)
        async with agent.connected():
            task_id = await launch(master, {"entrypoint": ["x"], "resources": {"slots": 2}})
            start = await agent.next_start()
            await agent.run(start)
            await agent.print(start, "one", offset=4)
            await agent.print(start, "two", offset=8)
            await wait_for_line(master, task_id, "two")
    async with lives.next() as master:
        agent.url = master.url
        shown = await get_task(master, task_id)
        assert shown["allocations"][0]["state"] == "STATE_RUNNING"
        async with agent.connected(reconnect=True, acks=[ack(start, "RUNNING")]):
            expected = agent.options["ContainersToReattach"]
            assert expected[0]["Container"]["id"] == start["Container"]["id"]
            assert expected[0]["Container"]["state"] == "RUNNING"
            # What was sent before may come again: the agent cannot know that it was stored.
            for text, offset in (("one", 4), ("two", 8), ("three", 14)):
                await agent.print(start, text, offset=offset)
            await wait_for_line(master, task_id, "three")
            slots = (await master.call("GET", "/agents/agent-a/slots")).json["slots"]
            assert [slot["container"] is not None for slot in slots] == [True, True, False, False]
            await agent.end(start)
            task = await wait_for_end(master, task_id)
        assert task["allocations"][0]["statusCode"] == 0
        log = await read_log(master, task_id)
    assert [line for line in log if line in ("one", "two", "three")] == ["one", "two", "three"]
    assert any(line.startswith("Restoring Command") for line in log)
    assert any(line.endswith("was recovered on an agent") for line in log)


async def test_a_container_that_was_still_starting_goes_on(lives: Lives) -> None:
    async with lives.next() as master:
        agent = StandInAgent(master.url)
        async with agent.connected():
            task_id = await launch(master, {"entrypoint": ["x"]})
            start = await agent.next_start()
            await agent.change(start, "PULLING")
            await wait_for_state(master, task_id, "PULLING")
    async with lives.next() as master:
        agent.url = master.url
        async with agent.connected(reconnect=True, acks=[ack(start, "STARTING")]):
            await wait_for_state(master, task_id, "STARTING")
            await agent.change(start, "RUNNING")
            await agent.end(start)
            await wait_for_end(master, task_id)


async def test_a_waiting_task_keeps_its_place(lives: Lives) -> None:
    async with lives.next() as master:
        first = await launch(master, {"entrypoint": ["x"], "resources": {"slots": 4}})
        second = await launch(master, {"entrypoint": ["y"], "resources": {"slots": 4}})
    async with lives.next() as master, StandInAgent(master.url).connected() as agent:
        start = await agent.next_start()
        assert start["Container"]["description"] == f"cmd-{first}"
        await agent.run(start)
        await agent.end(start)
        after = await agent.next_start()
        assert after["Container"]["description"] == f"cmd-{second}"


async def test_a_container_that_is_gone_ends_a_command_and_restarts_a_generic_task(
    lives: Lives,
) -> None:
    async with lives.next() as master:
        agent = StandInAgent(master.url)
        async with agent.connected():
            command = await launch(master, {"entrypoint": ["x"]})
            generic = await create(master, GENERIC)
            starts = [await agent.next_start() for _ in range(2)]
            for start in starts:
                await agent.run(start)
            await wait_for_state(master, command, "RUNNING")
            await wait_for_state(master, generic, "RUNNING")
    async with lives.next() as master:
        agent.url = master.url
        async with agent.connected(acks=[ack(start, "", GONE) for start in starts]):
            task = await wait_for_end(master, command)
            assert "RM failed to restore" in task["allocations"][0]["exitReason"]
            again = await agent.next_start()
            assert again["Container"]["description"] == "generic-task"
            await wait_for_state(master, generic, "QUEUED", run=2)


async def test_an_agent_that_never_returns_is_given_up(lives: Lives) -> None:
    manager = {"type": "agent", "agent_reconnect_wait": "200ms"}
    async with lives.next() as master, StandInAgent(master.url).connected() as agent:
        task_id = await launch(master, {"entrypoint": ["x"]})
        await agent.run(await agent.next_start())
        await wait_for_state(master, task_id, "RUNNING")
    async with lives.next(resource_manager=manager) as master:
        task = await wait_for_end(master, task_id)
        assert "agent closed with allocated containers" in task["allocations"][0]["exitReason"]


async def test_an_agent_is_waited_for_from_when_it_can_come(
    lives: Lives, caplog: pytest.LogCaptureFixture
) -> None:
    """To take up thousands of tasks may take longer than a lost agent may stay away."""
    manager = {"type": "agent", "agent_reconnect_wait": "10ms"}
    async with lives.next() as master, StandInAgent(master.url).connected() as agent:
        await create(master, GENERIC)
        await agent.next_start()
    change(lives.data, "DELETE FROM resources")
    change(lives.data, "DELETE FROM allocations")  # so that it needs a run at the start
    refuse(lives.data, "INSERT ON allocations")

    def said(text: str) -> int:
        return sum(text in record.getMessage() for record in caplog.records)

    async def heal_later() -> int:
        await until(lambda: said("trying again") > 1)
        given_up = said("agent is given up")
        await asyncio.to_thread(heal, lives.next_data)
        return given_up

    healing = asyncio.ensure_future(heal_later())
    async with lives.next(resource_manager=manager):
        assert await healing == 0
        await until(lambda: said("agent is given up") > 0)


async def test_signals_given_before_are_still_given(lives: Lives) -> None:
    async with lives.next() as master:
        agent = StandInAgent(master.url)
        async with agent.connected():
            task_id = await create(master, GENERIC)
            start = await agent.next_start()
            await agent.run(start)
            await wait_for_state(master, task_id, "RUNNING")
            path = f"/allocations/{task_id}.1"
            await master.call("POST", f"{path}/signals/pending_preemption")
            await master.call("POST", f"{path}/signals/ack_preemption")
            await master.call("POST", f"{path}/ready")
    async with lives.next() as master:
        agent.url = master.url
        answer = await master.call("GET", f"{path}/signals/preemption?timeout_seconds=60")
        assert answer.json["preempt"] is True
        assert (await get_task(master, task_id))["allocations"][0]["isReady"] is True
        async with agent.connected(reconnect=True, acks=[ack(start, "RUNNING")]):
            await agent.end(start)
            await agent.next_start()
            await wait_for_state(master, task_id, "QUEUED", run=2)


async def test_a_clock_that_was_set_back_gives_nobody_more_time_to_leave(lives: Lives) -> None:
    async with lives.next() as master:
        agent = StandInAgent(master.url)
        async with agent.connected():
            task_id = await create(master, GENERIC + "preemption_timeout: 1\n")
            start = await agent.next_start()
            await agent.run(start)
            await wait_for_state(master, task_id, "RUNNING")
            await agent.drop()
        await master.call("POST", f"/allocations/{task_id}.1/signals/pending_preemption")
    change(lives.data, "UPDATE allocations SET preempted_at = preempted_at + 3600000000")
    async with lives.next() as master:
        agent.url = master.url
        async with agent.connected(reconnect=True, acks=[ack(start, "RUNNING")]):
            assert await agent.next_kill() == start["Container"]["id"]


async def test_a_kill_goes_on_after_a_restart(lives: Lives) -> None:
    async with lives.next() as master:
        agent = StandInAgent(master.url)
        async with agent.connected():
            task_id = await create(master, GENERIC)
            start = await agent.next_start()
            await agent.run(start)
            await wait_for_state(master, task_id, "RUNNING")
            await agent.drop()
        await master.call("POST", f"/tasks/{task_id}/kill", {})
    async with lives.next() as master:
        agent.url = master.url
        async with agent.connected(reconnect=True, acks=[ack(start, "RUNNING")]):
            assert await agent.next_kill() == start["Container"]["id"]
            await agent.end(start, 137)
            task = await wait_for_end(master, task_id)
    assert task["taskState"] == "GENERIC_TASK_STATE_CANCELED"


async def test_a_paused_task_stays_paused(lives: Lives) -> None:
    async with lives.next() as master, StandInAgent(master.url).connected() as agent:
        task_id = await create(master, GENERIC)
        start = await agent.next_start()
        await agent.run(start)
        await wait_for_state(master, task_id, "RUNNING")
        await master.call("POST", f"/tasks/{task_id}/pause")
        await agent.next_kill()
        await agent.end(start, 137)

        async def paused() -> bool:
            state = (await get_task(master, task_id))["taskState"]
            return bool(state == "GENERIC_TASK_STATE_PAUSED")

        await eventually(paused)
    async with lives.next() as master, StandInAgent(master.url).connected() as agent:
        assert (await get_task(master, task_id))["taskState"] == "GENERIC_TASK_STATE_PAUSED"
        await master.call("POST", f"/tasks/{task_id}/unpause")
        await agent.next_start()
        await wait_for_state(master, task_id, "QUEUED", run=2)


async def test_a_restart_at_any_moment_leaves_one_container_and_one_end(lives: Lives) -> None:
    """The master ends after each step of a task's life in turn; nothing is done twice."""
    agent: StandInAgent | None = None
    task_id, start = "", None
    for step in ("PULLING", "STARTING", "RUNNING", "TERMINATED"):
        async with lives.next() as master:
            agent = agent or StandInAgent(master.url)
            agent.url = master.url
            last = {"STARTING": "PULLING", "RUNNING": "STARTING", "TERMINATED": "RUNNING"}
            acks = [] if start is None else [ack(start, last[step])]
            async with agent.connected(reconnect=start is not None, acks=acks):
                if start is None:
                    task_id = await launch(master, {"entrypoint": ["x"]})
                    start = await agent.next_start()
                await (agent.end(start) if step == "TERMINATED" else agent.change(start, step))
                await wait_for_state(master, task_id, step)
                assert agent.starts.empty()
                assert agent.kills.empty()
    async with lives.next() as master:
        log = await read_log(master, task_id)
        assert sum("was terminated" in line for line in log) == 1
        assert sum("have started" in line for line in log) == 1
        await asyncio.sleep(0)
        assert (await master.call("GET", "/tasks")).json["allocationIdToSummary"] == {}
