"""The whole agent on a machine whose GPUs change."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.agent.conftest import AgentProcess
from tests.agent.slots.fake_driver import FakeDriver
from tests.agent.stand_in import StandInMaster


@pytest.fixture
async def on_gpus(agent: AgentProcess, master: StandInMaster, driver: FakeDriver) -> AgentProcess:
    agent.settings |= {
        "artificial_slots": "0",
        "slot_type": "cuda",
        "slot_check_interval_s": "1",
        "registration_pause_s": "0.2",
        "sandbox_mode": "process",  # walls would need the device nodes
    }
    agent.environ = driver.environ
    await agent.start()
    await master.connected()
    return agent


def offered(master: StandInMaster) -> list[int]:
    return [device["id"] for device in master.hellos[-1]["Devices"]]


async def test_a_gpu_that_is_lost_takes_no_new_container_and_heals(
    on_gpus: AgentProcess, master: StandInMaster, driver: FakeDriver
) -> None:
    first, second = master.hellos[0]["Devices"]
    holder = await master.start("/bin/sleep", "1000", devices=[first])
    await master.reached(holder, "RUNNING")
    driver.says(HANDLE1=15)
    async with asyncio.timeout(60):
        while True:
            seen = await master.ended(await master.start("/bin/true", devices=[second]))
            if seen.failure:
                break
    assert seen.failure["FailureType"] == "agent failed to launch the container"
    assert "the GPU is lost" in seen.failure["ErrMsg"]
    driver.says()
    async with asyncio.timeout(60):
        while seen.failure:
            seen = await master.ended(await master.start("/bin/true", devices=[second]))
    # The agent never left: a container was in the way of registering with other devices.
    assert master.containers[holder].states[-1] == "RUNNING"
    assert len(master.hellos) == 1


async def test_an_idle_agent_registers_anew_when_its_gpus_change(
    on_gpus: AgentProcess, master: StandInMaster, driver: FakeDriver
) -> None:
    assert offered(master) == [0, 1]
    master.expects_other_devices = True
    driver.says(HANDLE1=15)
    await master.connected(2)
    assert offered(master) == [0]
    driver.says(N=3)
    await master.connected(3)
    assert offered(master) == [0, 1, 2]
    assert {dial["reconnect"] for dial in master.dials} == {"false"}


async def test_an_agent_whose_driver_fails_comes_back_with_it(
    on_gpus: AgentProcess, master: StandInMaster, driver: FakeDriver
) -> None:
    driver.says(INIT=18)
    await master.until(lambda: master.close_code is not None)
    driver.says()
    await master.connected(2)
    assert offered(master) == [0, 1]


async def test_an_agent_that_restarts_beside_a_lost_gpu_keeps_what_runs(
    on_gpus: AgentProcess, master: StandInMaster, driver: FakeDriver
) -> None:
    first, second = master.hellos[0]["Devices"]
    holder = await master.start("/bin/sleep", "1000", devices=[first])
    await master.reached(holder, "RUNNING")
    await on_gpus.end(signal.SIGKILL)
    driver.says(HANDLE1=15)
    await on_gpus.start()
    await master.connected(2)
    assert offered(master) == [0, 1]  # others would cost the container
    seen = await master.ended(await master.start("/bin/true", devices=[second]))
    assert "the GPU is lost" in (seen.failure or {})["ErrMsg"]
    assert master.containers[holder].states[-1] == "RUNNING"
    # Once nothing runs, a master that cannot be told of the slot's health sees it go.
    master.expects_other_devices = True
    await master.signal(holder)
    await master.connected(3)
    assert offered(master) == [0]
