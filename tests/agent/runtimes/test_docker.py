"""Docker's own: the network, what is left after a failure, and an engine that cannot be reached."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from shipway_agent.errors import RuntimeRefused, RuntimeUnavailable
from shipway_agent.runtimes.engine import connect
from shipway_agent.runtimes.spec import (
    Archive,
    ArchiveItem,
    ContainerSpec,
    ContainerState,
    Event,
    ItemKind,
    Runtime,
)
from tests.agent.runtimes.conftest import Case
from tests.agent.runtimes.gate import Gate
from tests.agent.runtimes.steps import ignore, read_all, read_until, run, start
from tests.lab.docker import Docker

MakeSpec = Callable[..., ContainerSpec]

on_docker = pytest.mark.parametrize("case_name", ["docker"], indirect=True)

WAIT = ("sh", "-c", "echo ready; trap 'echo bye; exit 4' TERM; while :; do sleep 0.1; done")


@pytest.mark.parametrize("case_name", ["docker", "podman", "podman-socket"], indirect=True)
async def test_published_ports_are_told(runtime: Runtime, make_spec: MakeSpec) -> None:
    spec = make_spec(argv=WAIT, network_mode="bridge", ports=(1734, 8080), publish_all_ports=True)
    handle = await runtime.create(spec, ignore)
    addresses = (await runtime.start(handle)).addresses
    assert {address.container_port for address in addresses} == {1734, 8080}
    assert all(address.host_port > 0 and address.host_ip for address in addresses)
    assert all(address.container_ip.count(".") == 3 for address in addresses)
    (owned,) = await runtime.list_owned({})
    assert owned.addresses == addresses


@pytest.mark.parametrize("case_name", ["docker", "podman"], indirect=True)
async def test_ports_on_the_hosts_network_are_the_hosts(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    handle = await runtime.create(make_spec(argv=WAIT, ports=(1734,)), ignore)
    (address,) = (await runtime.start(handle)).addresses
    assert (address.container_port, address.host_port) == (1734, 1734)
    assert (address.container_ip, address.host_ip) == ("", "")


@on_docker
async def test_a_container_whose_files_cannot_be_copied_is_not_left_behind(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    item = ArchiveItem(path="x", kind=ItemKind.FILE, content=b"x")
    events: list[Event] = []
    spec = make_spec(archives=(Archive(path="/no/such/folder", items=(item,)),))
    with pytest.raises(RuntimeRefused, match="/no/such/folder"):
        await runtime.create(spec, events.append)
    assert events[-1].text == "copying files to container: /no/such/folder"
    assert await runtime.list_owned({}) == []


@on_docker
async def test_a_creation_that_is_cancelled_leaves_nothing_behind(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    big = ArchiveItem(path="/big", kind=ItemKind.FILE, content=b"x" * 5_000_000)
    spec = make_spec(archives=tuple(Archive(path="/", items=(big,)) for _ in range(3)))
    for delay_s in (0.0, 0.01, 0.05, 0.1):
        creating = asyncio.create_task(runtime.create(spec, ignore))
        await asyncio.wait([creating], timeout=delay_s)
        creating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await runtime.remove(await creating)
    assert await runtime.list_owned({}) == []


@on_docker
async def test_the_images_entry_point_can_be_replaced(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    spec = make_spec(entrypoint=("echo", "entered"), argv=("with", "words"))
    assert (await run(runtime, spec)).stdout == b"entered with words\n"


@on_docker
async def test_a_container_without_gpus_asks_for_none(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    outcome = await run(runtime, make_spec(argv=("cat", "/proc/self/environ")))
    assert b"NVIDIA_VISIBLE_DEVICES=void" in outcome.stdout.split(b"\0")


@on_docker
async def test_a_paused_container_runs_and_can_be_killed(
    runtime: Runtime, make_spec: MakeSpec, docker: Docker
) -> None:
    handle = await start(runtime, make_spec(argv=WAIT))
    await asyncio.to_thread(docker.run, ["pause", handle.native_id])
    (owned,) = await runtime.list_owned({})
    assert owned.state is ContainerState.RUNNING
    await runtime.kill(handle)
    assert (await runtime.wait(handle)).code == 137


@on_docker
async def test_a_container_that_somebody_removes_has_ended(
    runtime: Runtime, make_spec: MakeSpec, docker: Docker
) -> None:
    handle = await start(runtime, make_spec(argv=WAIT))
    waiting = asyncio.create_task(runtime.wait(handle))
    reading = asyncio.create_task(read_all(runtime, handle))
    await read_until(runtime, handle, b"ready\n")
    await asyncio.to_thread(docker.run, ["rm", "-f", handle.native_id])
    async with asyncio.timeout(60):
        assert (await waiting).code in {None, 137}
        assert await reading == (b"ready\n", b"")
    await runtime.kill(handle)
    await runtime.remove(handle)


@on_docker
async def test_containers_outlive_connections_to_the_engine(
    case: Case, make_spec: MakeSpec, docker: Docker, tmp_path: Path
) -> None:
    async with Gate(tmp_path / "gate.sock", docker.socket).open() as gate:
        runtime = await case.open(docker_host=f"unix://{gate.path}")
        handle = await start(runtime, make_spec(argv=WAIT))
        waiting = asyncio.create_task(runtime.wait(handle))
        reading = asyncio.create_task(read_all(runtime, handle))
        await read_until(runtime, handle, b"ready\n")
        gate.shut()
        with pytest.raises(RuntimeUnavailable):
            await runtime.list_owned({})
        await asyncio.to_thread(docker.run, ["kill", "--signal", "TERM", handle.native_id])
        gate.let_in()
        async with asyncio.timeout(60):
            assert (await waiting).code == 4
            assert await reading == (b"ready\nbye\n", b"")
        await runtime.remove(handle)
    await case.open()  # which cleans up, without the gate


async def test_an_engine_that_does_not_answer_is_named(tmp_path: Path) -> None:
    for address in (f"unix://{tmp_path}/none.sock", "tcp://127.0.0.1:1"):
        with pytest.raises(RuntimeUnavailable, match=rf"{address}.*: .*start the engine"):
            await connect(address, {})
    with pytest.raises(RuntimeUnavailable, match="use unix://"):
        await connect("npipe:////./pipe/x", {})
    with pytest.raises(RuntimeUnavailable, match="DOCKER_CERT_PATH"):
        await connect(
            "tcp://127.0.0.1:1", {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}
        )
