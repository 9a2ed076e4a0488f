"""The agent dies and comes back, under every runtime: what runs goes on, what ended is told."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent.conftest import AgentProcess
from tests.agent.slots.fake_driver import FakeDriver
from tests.agent.stand_in import StandInMaster
from tests.lab.apptainer import Apptainer
from tests.lab.docker import Docker
from tests.lab.podman import Podman

SHARED = "/shared"


class Runtime:
    """One runtime, set up for an agent."""

    def __init__(self, agent: AgentProcess, *, image: str, **settings: str) -> None:
        self.image = image
        agent.settings |= settings


def with_process(agent: AgentProcess, request: pytest.FixtureRequest) -> Runtime:
    return Runtime(agent, image="", container_runtime="sandbox", sandbox_mode="process")


def with_docker(agent: AgentProcess, request: pytest.FixtureRequest) -> Runtime:
    docker: Docker = request.getfixturevalue("docker")
    return Runtime(agent, image=docker.image, container_runtime="docker", docker_host=docker.url)


def with_podman(agent: AgentProcess, request: pytest.FixtureRequest) -> Runtime:
    podman: Podman = request.getfixturevalue("podman")
    agent.environ |= podman.environment
    return Runtime(agent, image=podman.image, container_runtime="podman")


def with_podman_socket(agent: AgentProcess, request: pytest.FixtureRequest) -> Runtime:
    podman: Podman = request.getfixturevalue("podman")
    agent.environ |= podman.environment
    return Runtime(agent, image=podman.image, container_runtime="podman", podman_socket=podman.url)


def with_apptainer(agent: AgentProcess, request: pytest.FixtureRequest) -> Runtime:
    apptainer: Apptainer = request.getfixturevalue("apptainer")
    agent.environ |= apptainer.environment
    return Runtime(agent, image=apptainer.image, container_runtime="apptainer")


@pytest.fixture(
    params=[with_process, with_docker, with_podman, with_podman_socket, with_apptainer],
    ids=lambda make: make.__name__.removeprefix("with_"),
)
def runtime(request: pytest.FixtureRequest, agent: AgentProcess) -> Runtime:
    make: Callable[[AgentProcess, pytest.FixtureRequest], Runtime] = request.param
    return make(agent, request)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder that containers see, too, with a pipe that one of them holds while it lives."""
    folder = tmp_path / "shared"
    folder.mkdir()
    os.mkfifo(folder / "alive")
    return folder


async def wait_dead(pipe: Path) -> None:
    """Wait until nobody holds the pipe any more; somebody did."""

    def read_to_the_end() -> None:
        with pipe.open("rb") as stream:
            stream.read()

    async with asyncio.timeout(60):
        await asyncio.to_thread(read_to_the_end)


async def test_running_ones_go_on_and_ended_ones_tell_their_code_and_last_words(
    agent: AgentProcess, master: StandInMaster, runtime: Runtime, shared: Path
) -> None:
    await agent.start()
    await master.connected()
    place = str(shared) if runtime.image == "" else SHARED  # without walls there is but one
    until = f"until [ -e {place}/%s ]; do sleep 0.05; done"
    stays, ends = [
        await master.start(
            *("/bin/sh", "-c", script),
            slots=0,
            Image=runtime.image,
            mounts={place: str(shared)},
        )
        for script in (
            f"echo first; {until % 'go'}; echo last; exit 5",
            f"exec 9>{place}/alive; echo first; {until % 'end'}; echo last; exit 9",
        )
    ]
    gone = asyncio.ensure_future(wait_dead(shared / "alive"))
    for container_id in (stays, ends):
        await master.until(lambda id_=container_id: master.containers[id_].output() == ["first"])  # type: ignore[misc]
    await agent.end(signal.SIGKILL)
    (shared / "end").touch()
    await gone
    await agent.start()
    ended = await master.ended(ends)
    acknowledged = master.hellos[-1]["ContainersReattached"]
    assert {one["Container"]["id"]: one["Failure"] for one in acknowledged} == {
        stays: None,
        ends: None,
    }
    assert (ended.failure or {})["ExitCode"] == 9
    assert ended.output_by_place() == ["first", "last"]
    (shared / "go").touch()
    stayed = await master.ended(stays)
    assert (stayed.failure or {})["ExitCode"] == 5
    assert stayed.output_by_place() == ["first", "last"]
    await agent.forgot_all()


async def test_containers_of_others_are_never_touched(
    agent: AgentProcess, master: StandInMaster, docker: Docker
) -> None:
    label = "ai.determined.container."
    own = {"id": "1", "agent": "node one", "cluster": master.cluster_id, "devices": ""}
    strangers = {
        "no labels": {},
        "another agent": {**own, "agent": "node two"},
        "another cluster": {**own, "cluster": "99999999-2222-3333-4444-555555555555"},
    }
    ids = {
        name: docker.run(
            [
                *("run", "-d", "--network=none"),
                *(f"--label={label}{key}={value}" for key, value in labels.items()),
                *(docker.image, "sleep", "1000"),
            ]
        ).stdout.strip()
        for name, labels in strangers.items()
    }
    try:
        agent.settings |= {"container_runtime": "docker", "docker_host": docker.url}
        await agent.start()
        await master.connected()
        await master.ended(await master.start("/bin/true", Image=docker.image))
        await agent.end(signal.SIGKILL)
        await agent.start()
        await master.connected(2)
        await master.ended(await master.start("/bin/true", Image=docker.image))
        found = json.loads(docker.run(["inspect", *ids.values()]).stdout)
        assert {one["Id"]: one["State"]["Running"] for one in found} == dict.fromkeys(
            ids.values(), True
        )
    finally:
        docker.run(["rm", "-f", *ids.values()])


async def test_a_paused_container_lives(
    agent: AgentProcess, master: StandInMaster, docker: Docker
) -> None:
    agent.settings |= {"container_runtime": "docker", "docker_host": docker.url}
    await agent.start()
    await master.connected()
    script = "trap 'exit 6' USR1; echo up; while :; do sleep 0.1; done"
    container_id = await master.start("/bin/sh", "-c", script, Image=docker.image)
    seen = master.containers[container_id]
    await master.until(lambda: seen.output() == ["up"])
    native_id = (seen.running or {})["ContainerInfo"]["Id"]
    await agent.end(signal.SIGKILL)
    docker.run(["pause", native_id])
    await agent.start()
    await master.connected(2)
    docker.run(["unpause", native_id])
    await master.signal(container_id, signal.SIGUSR1)
    await master.ended(container_id)
    assert seen.states == ["PULLING", "STARTING", "RUNNING", "TERMINATED"]
    assert (seen.failure or {})["ExitCode"] == 6


async def test_a_device_is_known_by_its_number_not_by_its_place(
    agent: AgentProcess, master: StandInMaster, driver: FakeDriver
) -> None:
    agent.settings |= {
        "artificial_slots": "0",
        "slot_type": "cuda",
        "visible_gpus": "1",
        "sandbox_mode": "process",  # walls would need the device nodes
    }
    agent.environ = driver.environ
    await agent.start()
    await master.connected()
    (device,) = master.hellos[0]["Devices"]
    assert device["id"] == 1
    container_id = await master.start("/bin/sleep", "1000", devices=[device])
    await master.reached(container_id, "RUNNING")
    await agent.end(signal.SIGKILL)
    (record,) = agent.records()
    record.unlink()  # what is left are the numbers in the container's labels
    seen = master.containers[container_id]
    del seen.states[:]  # and a master that heard nothing yet does not name the devices
    await agent.start()
    await master.reached(container_id, "RUNNING")
    (acknowledged,) = master.hellos[-1]["ContainersReattached"]
    assert acknowledged["Container"]["devices"] == [device]
    await master.signal(container_id)
    await master.ended(container_id)
    assert (seen.failure or {})["ExitCode"] == 137
