"""The whole agent with a real Docker engine."""

from __future__ import annotations

import json
import signal

import pytest

from tests.agent.conftest import AgentProcess
from tests.agent.stand_in import StandInMaster
from tests.lab.docker import Docker


@pytest.fixture
async def on_docker(agent: AgentProcess, master: StandInMaster, docker: Docker) -> AgentProcess:
    agent.settings |= {"container_runtime": "docker", "docker_host": docker.url}
    await agent.start()
    await master.connected()
    return agent


async def test_a_container_has_addresses_files_and_labels(
    on_docker: AgentProcess, master: StandInMaster, docker: Docker
) -> None:
    container_id = await master.start(
        "/bin/sh",
        "-c",
        "cat greeting; echo $DET_AGENT_ID; sleep 1000",
        Image=docker.image,
        files={"/run/determined/workdir/greeting": b"hi there\n"},
    )
    seen = await master.reached(container_id, "RUNNING")
    await master.until(lambda: seen.output() == ["hi there", "node one"])
    info = (seen.running or {})["ContainerInfo"]
    assert info["HostConfig"]["NetworkMode"] == "bridge"
    bindings = info["NetworkSettings"]["Ports"]["1734/tcp"]
    assert all(int(binding["HostPort"]) > 0 for binding in bindings)
    (network,) = info["NetworkSettings"]["Networks"].values()
    assert network["IPAddress"]
    inspected = json.loads(docker.run(["inspect", info["Id"]]).stdout)[0]
    labels = inspected["Config"]["Labels"]
    assert labels["ai.determined.container.id"] == container_id
    assert labels["ai.determined.container.agent"] == "node one"
    assert labels["ai.determined.container.devices"] == "0"
    assert inspected["NetworkSettings"]["IPAddress"] == network["IPAddress"]
    await master.signal(container_id)
    await master.ended(container_id)
    assert seen.failure is not None
    assert seen.failure["ExitCode"] == 137


async def test_an_image_that_does_not_exist_is_told_by_its_cause(
    on_docker: AgentProcess, master: StandInMaster
) -> None:
    seen = await master.ended(await master.start("/bin/true", Image="localhost:1/no/such:image"))
    assert seen.states == ["PULLING", "TERMINATED"]
    assert seen.failure is not None
    assert seen.failure["FailureType"] == "task failed without an associated exit code"
    assert seen.failure["ErrMsg"].startswith("pulling container image: ")
    assert "localhost:1/no/such:image" in seen.failure["ErrMsg"]
    assert [record["EndStats"] for record in master.stats] == [False, True]
    assert {record["Stats"]["AllocationID"] for record in master.stats} == {"1.1"}


async def test_containers_of_a_runtime_that_is_not_used_are_not_given_up(
    on_docker: AgentProcess, master: StandInMaster, docker: Docker
) -> None:
    container_id = await master.start("/bin/sleep", "1000", Image=docker.image)
    seen = await master.reached(container_id, "RUNNING")
    await on_docker.end(signal.SIGKILL)
    on_docker.settings["container_runtime"] = "sandbox"
    await on_docker.start()
    assert await on_docker.wait() == 1
    assert f"container {container_id} runs under docker" in on_docker.log.read_text()
    on_docker.settings["container_runtime"] = "docker"
    await on_docker.start()
    await master.connected(2)
    await master.signal(container_id)
    await master.ended(container_id)
    assert seen.failure is not None
    assert seen.failure["ExitCode"] == 137


async def test_a_stop_that_drains_ends_a_container_as_the_task_wants(
    agent: AgentProcess, master: StandInMaster, docker: Docker
) -> None:
    agent.settings |= {
        "container_runtime": "docker",
        "docker_host": docker.url,
        "drain_on_stop": "true",
    }
    await agent.start()
    await master.connected()
    script = "trap 'echo saved; exit 4' TERM; echo up; while :; do sleep 0.1; done"
    container_id = await master.start("/bin/sh", "-c", script, Image=docker.image)
    seen = master.containers[container_id]
    await master.until(lambda: seen.output() == ["up"])
    assert await agent.end() == 0
    assert seen.output() == ["up", "saved"]
    assert (seen.failure or {})["ExitCode"] == 4
    assert agent.records() == []
    assert docker.list_tasks(ended=True) == []
