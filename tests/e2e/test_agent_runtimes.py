"""The same command on an agent under Docker and on one under the sandbox."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.e2e.conftest import Site
from tests.e2e.experiments import train_with_a_pause, write_config_of_ranks, write_python_image
from tests.e2e.tasks import fetch_command, wait_for_end, wait_for_state
from tests.lab.docker import Docker
from tests.lab.processes import wait_until
from tests.lab.shipway import Agent

COMMAND = "echo hello; hostname; pwd; exit 3"
IN_DOCKER = ("--config", "resources.resource_pool=docker", "--config", "environment.image=lab:bb")


def test_under_the_sandbox(site: Site) -> None:
    done = site.det.run("cmd", "run", COMMAND)
    assert re.search(r"hello$", done.stdout, re.MULTILINE)
    newest = json.loads(site.det.run("cmd", "list", "--json", "--order-by", "desc").stdout)[0]
    assert "3" in newest["exitStatus"]


def test_under_docker(site: Site, docker_agent: Agent) -> None:
    done = site.det.run("cmd", "run", *IN_DOCKER, COMMAND)
    assert re.search(r"hello$", done.stdout, re.MULTILINE)
    assert re.search(r"/run/determined/workdir$", done.stdout, re.MULTILINE)
    newest = json.loads(site.det.run("cmd", "list", "--json", "--order-by", "desc").stdout)[0]
    assert "3" in newest["exitStatus"]
    assert newest["resourcePool"] == "docker"


def test_docker_gets_context_and_environment(
    site: Site, docker_agent: Agent, tmp_path: Path
) -> None:
    (tmp_path / "data.txt").write_text("from the context\n")
    value = "a=b 'c' \"d\" $e"
    variables = json.dumps([f"MINE={value}"])
    done = site.det.run(
        *("cmd", "run", *IN_DOCKER, "--context", str(tmp_path)),
        *("--config", f"environment.environment_variables={variables}"),
        *("--config", "resources.slots=2"),
        'cat data.txt; echo "mine: $MINE"; echo "slots: $DET_SLOT_IDS $DET_TASK_TYPE"',
    )
    assert "from the context" in done.stdout
    assert f"mine: {value}" in done.stdout
    assert "slots: [0,1] COMMAND" in done.stdout


def test_an_image_that_does_not_exist_is_named_in_the_log(site: Site, docker_agent: Agent) -> None:
    done = site.det.run(
        *("cmd", "run", "--config", "resources.resource_pool=docker"),
        # of a registry that nobody runs: looking for a public one's name may take long
        *("--config", "environment.image=127.0.0.1:1/lab:nosuch", "true"),
    )
    assert "127.0.0.1:1/lab:nosuch" in done.stdout
    newest = json.loads(site.det.run("cmd", "list", "--json", "--order-by", "desc").stdout)[0]
    assert newest["state"] == "TERMINATED"


def check_no_container_runs(docker: Docker) -> None:
    """Check that no task is left; the engine lists one a moment after it has told of its end."""
    wait_until(lambda: not docker.list_tasks(), "no container runs", limit_s=60)


def test_a_killed_command_leaves_no_container(
    site: Site, docker_agent: Agent, docker: Docker
) -> None:
    command_id = site.det.run(
        "cmd", "run", "--detach", *IN_DOCKER, "trap '' TERM; while :; do sleep 1; done"
    ).stdout.strip()
    wait_for_state(site.api, command_id, "STATE_RUNNING")
    assert docker.list_tasks()
    site.det.run("cmd", "kill", command_id)
    wait_for_end(site.api, command_id)
    check_no_container_runs(docker)
    assert fetch_command(site.api, command_id)["state"] == "STATE_TERMINATED"


def test_containers_outlive_their_agent(site: Site, docker_agent: Agent, tmp_path: Path) -> None:
    """The agent crashes and comes back: the command goes on, its output is complete, once."""
    command_id = site.det.run(
        *("cmd", "run", "--detach", *IN_DOCKER, "--volume", f"{tmp_path}:/shared"),
        "echo before; while [ ! -e /shared/go ]; do sleep 0.1; done; echo after; exit 5",
    ).stdout.strip()
    wait_for_state(site.api, command_id, "STATE_RUNNING")
    docker_agent.kill()
    (tmp_path / "go").touch()
    docker_agent.start()
    wait_for_end(site.api, command_id)
    text = site.det.run("task", "logs", command_id).stdout
    assert len(re.findall(r"before$", text, re.MULTILINE)) == 1
    assert len(re.findall(r"after$", text, re.MULTILINE)) == 1
    assert "5" in str(fetch_command(site.api, command_id)["exitStatus"])


def test_a_trial_in_docker_goes_on_from_its_checkpoint(
    site: Site, docker_agent: Agent, docker: Docker, tmp_path: Path
) -> None:
    docker.run(["import", str(write_python_image(tmp_path)), "lab:python"], limit_s=60)
    resources = {"resource_pool": "docker", "slots_per_trial": 2}
    config = write_config_of_ranks(tmp_path, resources=resources)
    train_with_a_pause(site, config, "--config", "environment.image=lab:python", ranks=2)
    check_no_container_runs(docker)
