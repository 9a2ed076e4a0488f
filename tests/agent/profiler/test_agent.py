"""The agent keeps a profiler beside each container that wants one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

from shipway_agent.config import AgentSettings
from shipway_agent.containers.records import Record
from shipway_agent.containers.state import State
from shipway_agent.master.messages import Container
from shipway_agent.profiler.agent import profile_containers
from shipway_agent.profiler.sampler import Sampler
from shipway_agent.runtimes.spec import ContainerHandle, ContainerId
from tests.agent.conftest import AgentProcess
from tests.agent.job.conftest import eventually
from tests.agent.job.stand_in import TOKEN, StandInRelay
from tests.agent.profiler.test_profiler import find_own_process
from tests.agent.stand_in import StandInMaster

Running = tuple[Record, ContainerHandle]


def make_container(name: str, *, trial_id: str | None = None, profiles: bool = False) -> Running:
    container_id = ContainerId(name)
    record = Record(
        agent_id="node one",
        cluster_id="c",
        runtime="none",
        container=Container(id=container_id, state=State.RUNNING),
        trial_id=trial_id,
        session_token=TOKEN,
        profiles=profiles,
        delivered={},
    )
    return record, ContainerHandle(container_id=container_id, native_id=name)


class Looks:
    """How often the containers were looked at."""

    def __init__(self, running: list[Running]) -> None:
        self._running, self._begun = running, 0

    def list_running(self) -> list[ContainerHandle]:
        self._begun += 1
        return [handle for _, handle in self._running]

    async def come_to(self, count: int) -> None:
        """Wait until that many looks are over."""
        await eventually(lambda: self._begun > count)


@contextlib.asynccontextmanager
async def profiling(
    relay: StandInRelay, running: list[Running], *, enabled: bool = False
) -> AsyncIterator[Looks]:
    settings = AgentSettings.model_validate(
        {
            "master_host": "127.0.0.1",
            "master_port": relay.port,
            "agent_id": "node one",
            "profiling": {"enabled": enabled},
        }
    )
    looks = Looks(running)
    sampler = Sampler(
        list_running=looks.list_running,
        find_processes=find_own_process,
        interval_s=0.05,
    )
    async with sampler:
        task = asyncio.create_task(
            profile_containers(lambda: running, sampler, settings, os.environ, interval_s=0.05)
        )
        try:
            yield looks
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def trials(relay: StandInRelay) -> set[tuple[int, str]]:
    return {
        (batch["labels"]["trialId"], batch["labels"]["agentId"])
        for body in relay.bodies("profiler/metrics")
        for batch in body["batches"]
    }


async def test_a_trial_that_asks_is_profiled_until_it_ends(relay: StandInRelay) -> None:
    running = [
        make_container("asks", trial_id="7", profiles=True),
        make_container("does not ask", trial_id="8"),
        make_container("is no trial", profiles=True),
    ]
    async with profiling(relay, running) as looks:
        await looks.come_to(3)  # so that something was read
        running.clear()
        await eventually(lambda: trials(relay))  # the last words of an ended one
    assert trials(relay) == {(7, "node one")}


async def test_the_setting_profiles_every_trial(relay: StandInRelay) -> None:
    running = [make_container("trial", trial_id="8")]
    async with profiling(relay, running, enabled=True) as looks:
        await looks.come_to(3)
    assert trials(relay) == {(8, "node one")}


async def test_a_trial_is_profiled_on_after_the_agent_was_killed(
    agent: AgentProcess, master: StandInMaster
) -> None:
    await agent.start()
    await master.connected()
    environment = ["DET_TRIAL_ID=7", "DET_SESSION_TOKEN=t0ken", "SHIPWAY_PROFILE=true"]
    container_id = await master.start("sleep", "1000", environment=environment)
    await master.reached(container_id, "RUNNING")
    await agent.end(signal.SIGKILL)
    master.metrics.clear()
    await agent.start()
    await master.connected(2)
    await master.until(lambda: "cpu_util_simple" in {name_of(batch) for _, batch in master.metrics})
    assert {token for token, _ in master.metrics} == {"Bearer t0ken"}
    labels = [batch["labels"] for _, batch in master.metrics]
    assert {(one["trialId"], one["agentId"]) for one in labels} == {(7, "node one")}


def name_of(batch: dict[str, Any]) -> str:
    name: str = batch["labels"]["name"]
    return name
