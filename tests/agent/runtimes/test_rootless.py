"""Podman's service of a user without rights."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from shipway_agent.runtimes.docker import DockerRuntime
from shipway_agent.runtimes.options import RuntimeOptions
from shipway_agent.runtimes.registry import find_runtime
from shipway_agent.runtimes.spec import (
    Archive,
    ArchiveItem,
    ContainerId,
    ContainerSpec,
    ContainerState,
    ItemKind,
    Mount,
    Runtime,
)
from tests.agent.runtimes.steps import read_all, read_until, run, start
from tests.lab import rootless as rootless_lab
from tests.lab.folders import new_folder
from tests.lab.require import require
from tests.lab.rootless import RootlessPodman

WAIT = ("sh", "-c", "trap 'echo told; exit 9' TERM; echo ready; while :; do sleep 0.1; done")


@pytest.fixture(scope="module")
def podman() -> Iterator[RootlessPodman]:
    """The service."""
    require("podman without root", rootless_lab.missing_programs())
    with RootlessPodman(new_folder("rootless")) as service:
        yield service


@pytest.fixture
async def runtime(podman: RootlessPodman, tmp_path: Path) -> AsyncIterator[Runtime]:
    """The runtime, as an agent opens it that is told of the user's socket."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    options = RuntimeOptions(state_dir=tmp_path, environ=environ, podman_socket=podman.url)
    runtime = await find_runtime("podman", options)
    yield runtime
    for owned in await runtime.list_owned({}):
        await runtime.remove(owned.handle)
    await runtime.aclose()


def make_spec(**changes: Any) -> ContainerSpec:
    """Make a valid spec."""
    usual: dict[str, Any] = {
        "id": ContainerId("c-1"),
        "image": RootlessPodman.image,
        "argv": ("sh", "-c", "true"),
    }
    return ContainerSpec(**{**usual, **changes})


async def test_a_task_runs_with_its_environment_to_its_exit_status(runtime: Runtime) -> None:
    assert isinstance(runtime, DockerRuntime)
    script = 'printf "%s" "$A"; echo err >&2; exit 7'
    outcome = await run(
        runtime, make_spec(argv=("sh", "-c", script), environment={"A": "b=c\n\"d'"})
    )
    assert (outcome.stdout, outcome.stderr, outcome.exit.code) == (b"b=c\n\"d'", b"err\n", 7)


async def test_the_tasks_user_owns_its_archives_and_the_users_mounts(
    runtime: Runtime, podman: RootlessPodman
) -> None:
    shared = podman.folder / "home/shared"
    shared.mkdir()
    os.chown(shared, podman.uid, podman.uid)
    item = ArchiveItem(
        path="/run/determined", kind=ItemKind.DIRECTORY, mode=0o700, uid=1000, gid=1000
    )
    script = "id -u; stat -c '%a %u:%g' /run/determined; touch /shared/mine /run/determined/x"
    spec = make_spec(
        argv=("sh", "-c", script),
        user="1000:1000",
        archives=(Archive(path="/", items=(item,)),),
        mounts=(Mount(source=str(shared), target="/shared"),),
    )
    outcome = await run(runtime, spec)
    assert outcome.stdout == b"1000\n700 1000:1000\n"
    assert outcome.stderr == b""
    assert (shared / "mine").stat().st_uid == podman.uid


async def test_ports_of_a_network_of_its_own_are_told(runtime: Runtime) -> None:
    spec = make_spec(argv=WAIT, network_mode="bridge", ports=(1734,), publish_all_ports=True)
    handle = await runtime.create(spec, lambda _: None)
    (address,) = (await runtime.start(handle)).addresses
    assert (address.container_port, address.host_port > 0) == (1734, True)
    await runtime.kill(handle)
    assert (await runtime.wait(handle)).code == 137


async def test_it_is_found_again_and_followed_to_its_end(runtime: Runtime) -> None:
    handle = await start(runtime, make_spec(argv=WAIT))
    await read_until(runtime, handle, b"ready\n")
    (owned,) = await runtime.list_owned({})
    assert (owned.handle, owned.state) == (handle, ContainerState.RUNNING)
    await runtime.signal(handle, signal.SIGTERM)
    async with asyncio.timeout(60):
        assert (await runtime.wait(handle)).code == 9
    assert (await read_all(runtime, handle))[0] == b"ready\ntold\n"
