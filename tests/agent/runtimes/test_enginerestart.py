"""Engines that restart, die or lose answers in the middle of something: nothing twice, none lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipway_agent.errors import RuntimeUnavailable
from shipway_agent.runtimes.options import RuntimeOptions
from shipway_agent.runtimes.spec import (
    Archive,
    ArchiveItem,
    ContainerId,
    ContainerState,
    Event,
    ItemKind,
)
from tests.agent.runtimes.conftest import Case, MakeSpec
from tests.agent.runtimes.gate import Gate
from tests.agent.runtimes.imageregistry import ImageRegistry, serving
from tests.agent.runtimes.steps import ignore, read_all, read_until, run, start
from tests.lab import docker as docker_lab
from tests.lab.docker import Docker
from tests.lab.folders import new_folder
from tests.lab.podman import Podman
from tests.lab.require import require

COUNT = "i=0; while [ ! -e /go ]; do i=$((i+1)); echo $i; sleep 0.02; done; echo end; exit 6"

on_engines = pytest.mark.parametrize("case_name", ["docker", "podman-socket"], indirect=True)
on_docker = pytest.mark.parametrize("case_name", ["docker"], indirect=True)


@pytest.fixture(scope="module")
def living() -> Iterator[Docker]:
    """An engine of this module's own, whose containers outlive its restarts."""
    require("Docker", docker_lab.missing_programs())
    with Docker(new_folder("docker"), live_restore=True) as engine:
        yield engine


@pytest.fixture(scope="module")
def dying() -> Iterator[Docker]:
    """An engine of this module's own, whose containers end with it."""
    require("Docker", docker_lab.missing_programs())
    with Docker(new_folder("docker")) as engine:
        yield engine


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
@on_docker
async def test_a_container_that_outlives_its_engine_is_followed_to_its_end(
    case: Case, make_spec: MakeSpec, living: Docker, kill: bool
) -> None:
    runtime = await case.open(docker_host=living.url)
    handle = await start(runtime, make_spec(argv=("sh", "-c", COUNT)))
    waiting = asyncio.create_task(runtime.wait(handle))
    reading = asyncio.create_task(read_all(runtime, handle))
    await read_until(runtime, handle, b"3\n")
    await asyncio.to_thread(living.restart, kill=kill)
    assert not waiting.done()
    assert not reading.done()
    (owned,) = await runtime.list_owned({})
    assert owned.state is ContainerState.RUNNING
    await asyncio.to_thread(living.run, ["exec", handle.native_id, "touch", "/go"])
    async with asyncio.timeout(60):
        assert (await waiting).code == 6
        lines = (await reading)[0].decode().split()
    assert lines[-1] == "end"
    assert lines[:-1] == [str(number + 1) for number in range(len(lines) - 1)]
    await runtime.remove(handle)


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
@on_docker
async def test_a_container_that_ends_with_its_engine_has_ended(
    case: Case, make_spec: MakeSpec, dying: Docker, kill: bool
) -> None:
    runtime = await case.open(docker_host=dying.url)
    handle = await start(runtime, make_spec(argv=("sh", "-c", "trap 'exit 5' TERM; " + COUNT)))
    waiting = asyncio.create_task(runtime.wait(handle))
    reading = asyncio.create_task(read_all(runtime, handle))
    await read_until(runtime, handle, b"3\n")
    await asyncio.to_thread(dying.restart, kill=kill)
    async with asyncio.timeout(60):
        ended = await waiting
        assert (await reading)[0].startswith(b"1\n2\n3\n")
    assert ended.code in ({5, 137} if kill else {5})
    assert not ended.out_of_memory
    (owned,) = await runtime.list_owned({})
    assert owned.exit == ended
    await runtime.remove(handle)


@on_docker
async def test_a_launch_waits_for_an_engine_that_is_down(
    case: Case, make_spec: MakeSpec, dying: Docker
) -> None:
    runtime = await case.open(docker_host=dying.url)
    await asyncio.to_thread(dying.halt)
    launching = asyncio.create_task(run(runtime, make_spec(argv=("sh", "-c", "echo once"))))
    pulling = asyncio.create_task(runtime.pull(make_spec(), ignore))
    await asyncio.to_thread(dying.resume)
    async with asyncio.timeout(60):
        assert (await launching).stdout == b"once\n"
        await pulling
    (owned,) = await runtime.list_owned({})
    await runtime.remove(owned.handle)


@on_docker
async def test_a_pull_goes_on_when_its_engine_is_killed(
    case: Case, make_spec: MakeSpec, dying: Docker
) -> None:
    runtime = await case.open(docker_host=dying.url)
    async with serving(ImageRegistry(holds_layer=True)) as registry:
        events: list[Event] = []
        pulling = asyncio.create_task(runtime.pull(make_spec(image=registry.image), events.append))
        async with asyncio.timeout(60):
            await registry.layer_wanted.wait()
            await asyncio.to_thread(dying.halt, kill=True)
            registry.holds_layer = False
            await asyncio.to_thread(dying.resume)
            await pulling
    assert events[-1].fraction == 1.0


@on_engines
async def test_answers_that_are_lost_lead_to_one_container_that_runs_once(
    case: Case, make_spec: MakeSpec, tmp_path: Path, engine_socket: Path
) -> None:
    item = ArchiveItem(path="run/script", kind=ItemKind.FILE, content=b"echo ran\n")
    spec = make_spec(argv=("sh", "/run/script"), archives=(Archive(path="/", items=(item,)),))
    async with Gate(tmp_path / "gate.sock", engine_socket).open() as gate:
        runtime = await case.open(**through(gate, case.options))
        for request in ("containers/create", "/archive?", "/start"):
            gate.lose_answer_to(request)
        outcome = await run(runtime, spec)
        assert (outcome.stdout, outcome.exit.code) == (b"ran\n", 0)
        assert gate.all_lost
        assert len(await runtime.list_owned({})) == 1
    await case.open()  # which cleans up, without the gate


@pytest.mark.parametrize("case_name", ["podman-socket"], indirect=True)
async def test_a_service_that_is_killed_takes_no_container_along(
    case: Case, make_spec: MakeSpec, podman: Podman
) -> None:
    runtime = await case.open()
    handle = await start(runtime, make_spec(argv=("sh", "-c", COUNT)))
    waiting = asyncio.create_task(runtime.wait(handle))
    reading = asyncio.create_task(read_all(runtime, handle))
    await read_until(runtime, handle, b"3\n")
    await asyncio.to_thread(podman.halt)
    await asyncio.to_thread(podman.run, ["exec", handle.native_id, "touch", "/go"])
    await asyncio.to_thread(podman.run, ["wait", handle.native_id])
    await asyncio.to_thread(podman.resume)
    async with asyncio.timeout(60):
        assert (await waiting).code == 6
        assert (await reading)[0].endswith(b"\nend\n")


@pytest.fixture
def engine_socket(case: Case) -> Path:
    """The socket of the case's engine."""
    url = case.options.podman_socket or case.options.docker_host or ""
    return Path(url.removeprefix("unix://"))


def through(gate: Gate, options: RuntimeOptions) -> dict[str, str]:
    """Return the options by which an engine is reached through *gate*."""
    name = "podman_socket" if options.podman_socket else "docker_host"
    return {name: f"unix://{gate.path}"}


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
@on_docker
async def test_launches_that_a_restart_falls_into_make_one_container_each(
    case: Case, make_spec: MakeSpec, living: Docker, kill: bool
) -> None:
    runtime = await case.open(docker_host=living.url)

    given_up: list[int] = []

    async def launch(number: int) -> None:
        await asyncio.sleep(number * 0.05)  # so that the restart finds them at all stages
        spec = make_spec(id=ContainerId(f"c-{number}"), argv=("sh", "-c", f"echo {number}"))
        try:
            outcome = await run(runtime, spec)
        except RuntimeUnavailable:  # seldom: the agent's fault, so the task is tried elsewhere
            given_up.append(number)
        else:
            assert outcome.stdout == b"%d\n" % number

    launching = [asyncio.create_task(launch(number)) for number in range(12)]
    await asyncio.sleep(0.3)
    await asyncio.to_thread(living.restart, kill=kill)
    async with asyncio.timeout(60):
        await asyncio.gather(*launching)
    found = await runtime.list_owned({})
    assert sorted(owned.container_id for owned in found) == sorted(f"c-{n}" for n in range(12))
    assert len(given_up) <= 4
    for owned in found:
        assert not processes_in(owned.handle.native_id)
        await runtime.remove(owned.handle)


def processes_in(native_id: str) -> list[str]:
    """Return the processes whose cgroup carries the id of a container."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        with contextlib.suppress(OSError):
            if native_id in path.read_text():
                found.append(str(path))
    return found
