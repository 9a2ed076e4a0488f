"""The sites of the end-to-end tests: a master with agents, and one with Slurm beside them."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab.apptainer import Apptainer
from tests.lab.browser import Browser, browsing
from tests.lab.det import Det
from tests.lab.docker import Docker
from tests.lab.folders import new_folder, remove_folder
from tests.lab.podman import Podman
from tests.lab.shipway import PASSWORD, Agent, Api, Launcher, Master
from tests.lab.slurm import Slurm

SLOTS = 4


@dataclass(frozen=True, kw_only=True)
class Site:
    """A master, the agent `agent-a` with four artificial slots, and people who use them."""

    folder: Path
    master: Master
    agent: Agent
    api: Api
    det: Det
    """The stock client of the user `determined`."""
    admin: Det
    """The stock client of the user `admin`."""


@dataclass(frozen=True, kw_only=True)
class SlurmSite(Site):
    """A site whose master also has the partitions of a Slurm, through a launcher."""

    slurm: Slurm
    launcher: Launcher


@pytest.fixture(scope="session")
def site(det: Callable[..., Det]) -> Iterator[Site]:
    """A master with the pools `default` and `docker`; the second is empty without docker_agent."""
    on_loopback = {"network_mode": "host"}  # where the master is
    pools = [
        {"pool_name": "default"},
        {"pool_name": "nodes"},
        {"pool_name": "docker", "task_container_defaults": on_loopback},
    ]
    with ExitStack() as stack:
        folder = _folder(stack)
        master = Master(folder, {"resource_manager": {"type": "agent"}, "resource_pools": pools})
        _start(stack, master)
        agent = Agent(folder, master, agent_id="agent-a", slots=SLOTS)
        _start(stack, agent)
        yield Site(
            folder=folder,
            master=master,
            agent=agent,
            api=master.login(),
            det=det(master=master.url, user="determined", password=PASSWORD),
            admin=det(master=master.url, user="admin", password=PASSWORD),
        )


@pytest.fixture(scope="session")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Open a browser; nobody is logged in."""
    with browsing(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="session")
def docker_agent(site: Site, docker: Docker) -> Iterator[Agent]:
    """The agent `agent-d` of the pool `docker`, which runs tasks in Docker."""
    agent = Agent(
        site.folder,
        site.master,
        agent_id="agent-d",
        runtime="docker",
        pool="docker",
        environment=docker.environment,
    )
    with ExitStack() as stack:
        _start(stack, agent)
        yield agent


@pytest.fixture(scope="session")
def slurm_site(det: Callable[..., Det], slurm: Slurm) -> Iterator[SlurmSite]:
    """A master with an agent and, beside it, the partitions of the lab's Slurm; no images."""
    with ExitStack() as stack:
        yield open_slurm_site(stack, det, slurm, runtime="sandbox")


@pytest.fixture(scope="module")
def podman_site(det: Callable[..., Det], slurm: Slurm, podman: Podman) -> Iterator[SlurmSite]:
    """A Slurm site whose jobs run in podman."""
    with ExitStack() as stack:
        yield open_slurm_site(
            stack,
            det,
            slurm,
            runtime="podman",
            slot_type="cpu",  # podman would look for what a real GPU brings along
            launcher={"slurm": {"environment": podman.environment}},
        )


@pytest.fixture(scope="module")
def apptainer_site(
    det: Callable[..., Det], slurm: Slurm, apptainer: Apptainer
) -> Iterator[SlurmSite]:
    """A Slurm site whose jobs run in apptainer."""
    with ExitStack() as stack:
        yield open_slurm_site(
            stack,
            det,
            slurm,
            runtime="apptainer",
            launcher={"path": apptainer.environment["PATH"]},
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the ends of the daemons' logs to the report of a test that failed."""
    report = yield
    if report.failed:
        for found in getattr(item, "funcargs", {}).values():
            if isinstance(found, Site):
                for log in sorted(found.folder.glob("*.log")):
                    text = log.read_text(errors="replace").splitlines()[-60:]
                    report.sections.append((f"end of {log.name}", "\n".join(text)))
    return report


def _folder(stack: ExitStack) -> Path:
    folder = new_folder("e2e")
    stack.callback(remove_folder, folder)
    return folder


def _start(stack: ExitStack, daemon: Master | Agent | Launcher) -> None:
    stack.callback(daemon.stop)
    daemon.start()


def open_slurm_site(
    stack: ExitStack,
    det: Callable[..., Det],
    slurm: Slurm,
    *,
    runtime: str,
    slot_type: str = "cuda",
    launcher: Mapping[str, Any] | None = None,
) -> SlurmSite:
    """Start a master, an agent and a launcher, whose settings *launcher* changes."""
    folder = _folder(stack)
    user = getpass.getuser()
    master = Master(folder)
    daemon = Launcher(
        folder,
        master_url=master.url,
        user=user,
        environment=slurm.environment,
        config={"watch": {"interval_s": 0.5, "max_age_s": 0.3}, **(launcher or {})},
    )
    _start(stack, daemon)
    manager = {
        "type": "slurm",
        "cluster_name": "slurm",
        "host": "127.0.0.1",
        "port": daemon.port,
        "auth_file": str(daemon.token_file),
        "master_host": "127.0.0.1",
        "master_port": master.port,
        "container_run_type": runtime,
        "slot_type": slot_type,
        "user_name": user,
        "queue_interval": 0.5,
    }
    master.rewrite_config(
        {
            "resource_manager": {"type": "agent"},
            # All nodes of the lab are this machine.
            "security": {"default_task": {"user": user}, "proxy_networks": ["127.0.0.0/8"]},
            "additional_resource_managers": [{"resource_manager": manager}],
        }
    )
    _start(stack, master)
    agent = Agent(folder, master, agent_id="agent-a", slots=SLOTS)
    _start(stack, agent)
    return SlurmSite(
        folder=folder,
        master=master,
        agent=agent,
        api=master.login(),
        det=det(master=master.url, user="determined", password=PASSWORD),
        admin=det(master=master.url, user="admin", password=PASSWORD),
        slurm=slurm,
        launcher=daemon,
    )
