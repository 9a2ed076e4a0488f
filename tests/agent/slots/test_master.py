"""The whole agent and the whole master, on a machine whose GPUs change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.slots.fake_driver import FakeDriver
from tests.lab.processes import wait_until
from tests.lab.shipway import Agent, Api, Master


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    master = Master(tmp_path_factory.mktemp("master"))
    master.start()
    try:
        yield master
    finally:
        master.stop()


@pytest.fixture
def agent(
    request: pytest.FixtureRequest, tmp_path: Path, master: Master, driver: FakeDriver
) -> Iterator[Agent]:
    agent = Agent(
        tmp_path,
        master,
        agent_id=request.node.name,
        slots=0,
        config={
            "slot_type": "cuda",
            "slot_check_interval_s": 1,
            "registration_pause_s": 1,
            "sandbox": {"mode": "process"},  # walls would need the device nodes
        },
        environment=driver.environ,
    )
    agent.start()
    try:
        yield agent
    finally:
        agent.stop()


def flags(api: Api, agent: Agent) -> dict[str, tuple[bool, bool]]:
    status, answer = api.send("GET", f"/api/v1/agents/{agent.agent_id}/slots")
    slots = answer["slots"] if status == 200 else []  # between two registrations there is no agent
    return {slot["id"]: (slot["enabled"], slot["draining"]) for slot in slots}


def shows(api: Api, agent: Agent, *expected: tuple[bool, bool]) -> None:
    wanted = {str(number): value for number, value in enumerate(expected)}
    wait_until(lambda: flags(api, agent) == wanted, f"the slots are {wanted}", limit_s=60)


def launch(api: Api, *words: str, slots: int = 1) -> str:
    config = {"entrypoint": list(words), "resources": {"slots": slots}}
    answer = api.call("POST", "/api/v1/commands", {"config": config})
    command_id: str = answer["command"]["id"]
    return command_id


def state(api: Api, command_id: str) -> str:
    answer: Any = api.call("GET", f"/api/v1/commands/{command_id}")
    found: str = answer["command"]["state"]
    return found


def reaches(api: Api, command_id: str, wanted: str) -> None:
    wait_until(lambda: state(api, command_id) == wanted, f"{command_id} is {wanted}", limit_s=60)


def registrations(agent: Agent) -> int:
    return agent.log.read_text().count("connected to the master")


def test_a_lost_gpu_takes_no_work_until_it_heals(
    agent: Agent, master: Master, driver: FakeDriver
) -> None:
    api = master.login()
    shows(api, agent, (True, False), (True, False))
    first = launch(api, "sleep", "1000")
    reaches(api, first, "STATE_RUNNING")
    # The one with work on it is lost; and then the other one, while nothing else runs.
    driver.says(HANDLE0=15)
    shows(api, agent, (False, True), (True, False))
    assert state(api, first) == "STATE_RUNNING"
    second = launch(api, "sleep", "1000")
    reaches(api, second, "STATE_RUNNING")
    waits = launch(api, "true")
    reaches(api, waits, "STATE_QUEUED")
    api.call("POST", f"/api/v1/commands/{second}/kill")
    reaches(api, waits, "STATE_TERMINATED")
    driver.says(HANDLE0=15, ECC1=4)
    shows(api, agent, (False, True), (False, True))
    api.call("POST", f"/api/v1/commands/{first}/kill")
    waits = launch(api, "true", slots=2)
    reaches(api, waits, "STATE_QUEUED")
    driver.says()
    reaches(api, waits, "STATE_TERMINATED")
    shows(api, agent, (True, False), (True, False))
    # It was one agent all the time, and both sides have said why.
    assert registrations(agent) == 1
    for log in (agent.log.read_text(), master.log.read_text()):
        assert "the GPU is lost" in log
        assert "4 uncorrectable memory errors" in log
        assert "fit for use again" in log


def test_an_agent_that_is_restarted_on_a_broken_driver_keeps_its_tasks(
    agent: Agent, master: Master, driver: FakeDriver
) -> None:
    api = master.login()
    shows(api, agent, (True, False), (True, False))
    running = launch(api, "sleep", "1000")
    reaches(api, running, "STATE_RUNNING")
    agent.kill()
    driver.says(INIT=18)  # as after an update of the driver's library
    agent.start()
    shows(api, agent, (False, True), (False, True))
    assert state(api, running) == "STATE_RUNNING"
    driver.says()
    shows(api, agent, (True, False), (True, False))
    assert state(api, running) == "STATE_RUNNING"
    api.call("POST", f"/api/v1/commands/{running}/kill")
    reaches(api, running, "STATE_TERMINATED")


def test_a_gpu_that_is_added_is_offered_once_nothing_runs(
    agent: Agent, master: Master, driver: FakeDriver
) -> None:
    api = master.login()
    shows(api, agent, (True, False), (True, False))
    running = launch(api, "sleep", "1000")
    reaches(api, running, "STATE_RUNNING")
    driver.says(N=3)
    wait_until(
        lambda: "other devices could be offered" in agent.log.read_text(), "it saw them", limit_s=60
    )
    shows(api, agent, (True, False), (True, False))
    assert state(api, running) == "STATE_RUNNING"
    api.call("POST", f"/api/v1/commands/{running}/kill")
    shows(api, agent, (True, False), (True, False), (True, False))
