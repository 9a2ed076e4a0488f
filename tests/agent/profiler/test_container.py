"""Each container's numbers are its own, on every runtime: real load, real limits."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from shipway_agent.profiler.quantities import ContainerUsage, Quantity
from shipway_agent.profiler.sampler import Sampler
from shipway_agent.runtimes.options import RuntimeOptions
from shipway_agent.runtimes.registry import find_runtime
from shipway_agent.runtimes.spec import ContainerHandle, ContainerId, ContainerSpec, Runtime
from tests.agent.runtimes.conftest import (
    Case,
    MakeSpec,
    case,
    case_name,
    make_spec,
    runtime,
    with_socket_too,
)
from tests.agent.runtimes.steps import start
from tests.lab.docker import Docker
from tests.lab.podman import Podman

__all__ = ["case", "case_name", "make_spec", "runtime"]  # fixtures

BURN = "while :; do :; done"
BURN_BY_CHILDREN = "while :; do sh -c 'n=0; while [ $n -lt 20000 ]; do n=$((n+1)); done'; done"
WRITE = "dd if=/dev/zero of=/root/x bs=1M count=8 conv=fsync 2>/dev/null; exec sleep 1000"


@contextlib.asynccontextmanager
async def sampling(runtime: Runtime, *handles: ContainerHandle) -> AsyncIterator[Sampler]:
    async with Sampler(list_running=lambda: handles, find_processes=runtime.processes) as sampler:
        yield sampler


async def usage_when(
    sampler: Sampler, container_id: str, is_so: Callable[[ContainerUsage], object]
) -> ContainerUsage:
    """Wait until a container's numbers are as wanted."""
    last: ContainerUsage | None = None
    try:
        async with asyncio.timeout(60):
            while True:
                snapshot = await sampler.sample(max_age_s=0)
                last = snapshot.containers.get(ContainerId(container_id))
                if last is not None and is_so(last):
                    return last
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not in time; at last: {last}") from None


def burns(usage: ContainerUsage) -> bool:
    return usage.numbers.get(Quantity.CPU_SECONDS, 0.0) > 0.3


@with_socket_too
async def test_a_busy_container_is_told_from_an_idle_one(case: Case, make_spec: MakeSpec) -> None:
    runtime = await case.open()
    busy = await start(runtime, make_spec(argv=("sh", "-c", BURN)))
    idle = await start(runtime, make_spec(id=ContainerId("c-2"), argv=("sleep", "1000")))
    async with sampling(runtime, busy, idle) as sampler:
        usage = await usage_when(sampler, "c-1", burns)
        other = await usage_when(sampler, "c-2", lambda usage: True)
    assert other.numbers[Quantity.CPU_SECONDS] < usage.numbers[Quantity.CPU_SECONDS]
    assert usage.source == ("cgroup" if case.name.startswith(("docker", "podman")) else "processes")
    assert 0 < usage.numbers[Quantity.MEMORY_USED] < 256 << 20
    assert usage.numbers[Quantity.CPU_LIMIT] <= (os.cpu_count() or 1)
    assert usage.numbers[Quantity.MEMORY_FREE] > 0
    assert abs(usage.started_at - other.started_at) < 60
    # All of them are on the machine's own network here.
    assert Quantity.NETWORK_SENT not in usage.numbers


@pytest.mark.parametrize("case_name", ["process", "apptainer", "docker"], indirect=True)
async def test_children_that_ended_count(case: Case, make_spec: MakeSpec) -> None:
    runtime = await case.open()
    handle = await start(runtime, make_spec(argv=("sh", "-c", BURN_BY_CHILDREN)))
    seen: list[float] = []
    async with sampling(runtime, handle) as sampler:

        def note(usage: ContainerUsage) -> bool:
            seen.append(usage.numbers[Quantity.CPU_SECONDS])
            return burns(usage)

        await usage_when(sampler, "c-1", note)
    assert seen == sorted(seen)


@pytest.mark.parametrize("case_name", ["process", "bubblewrap", "apptainer"], indirect=True)
async def test_orphans_of_a_held_task_count(case: Case, make_spec: MakeSpec) -> None:
    runtime = await case.open()
    orphan = f"(setsid sh -c '{BURN}' &) ; exec sleep 1000"
    handle = await start(runtime, make_spec(argv=("sh", "-c", orphan)))
    async with sampling(runtime, handle) as sampler:
        await usage_when(sampler, "c-1", burns)


@pytest.mark.parametrize("case_name", ["process", "docker", "podman"], indirect=True)
async def test_a_container_that_ended_has_no_numbers(case: Case, make_spec: MakeSpec) -> None:
    runtime = await case.open()
    handle = await start(runtime, make_spec(argv=("sleep", "1000")))
    async with sampling(runtime, handle) as sampler:
        await usage_when(sampler, "c-1", lambda usage: True)
        await runtime.kill(handle)
        assert (await sampler.sample(max_age_s=0)).containers == {}


async def test_what_a_held_task_writes_is_counted(tmp_path: Path) -> None:
    options = RuntimeOptions(
        state_dir=tmp_path / "state", environ=dict(os.environ), sandbox_mode="process"
    )
    runtime = await find_runtime("sandbox", options)
    script = f"dd if=/dev/zero of={tmp_path}/x bs=1M count=8 conv=fsync 2>/dev/null; sleep 1000"
    spec = ContainerSpec(id=ContainerId("c-1"), image=None, argv=("sh", "-c", script))
    handle = await start(runtime, spec)
    try:
        async with sampling(runtime, handle) as sampler:
            usage = await usage_when(
                sampler, "c-1", lambda usage: usage.numbers[Quantity.DISK_WRITTEN_BYTES] >= 8 << 20
            )
        assert Quantity.DISK_WRITES not in usage.numbers  # the kernel does not count them so
    finally:
        await runtime.remove(handle)
        await runtime.aclose()


def engine(name: str, request: pytest.FixtureRequest) -> Docker | Podman:
    found: Docker | Podman = request.getfixturevalue(name)
    return found


def run_limited(engine: Docker | Podman, *words: str) -> str:
    """Start a container with limits that no spec of ours has; returns its id."""
    limits = ["--memory=64m", "--cpus=0.5"]
    done = engine.run(["run", "-d", *limits, *words])
    return done.stdout.strip()


@pytest.mark.parametrize("case_name", ["docker", "podman"], indirect=True)
async def test_limits_and_disks_and_network_of_a_container_are_its_own(
    case: Case, request: pytest.FixtureRequest
) -> None:
    lab = engine(case.name, request)
    runtime = await case.open()
    gateway = "$(ip route | head -n 1 | cut -d ' ' -f 3)"
    script = f"ping -c 3 -s 1000 {gateway} >/dev/null 2>&1; {WRITE}"
    native_id = run_limited(
        lab,
        "--network=bridge" if case.name == "docker" else "--network=none",
        lab.image,
        "sh",
        "-c",
        script,
    )
    handle = ContainerHandle(container_id=ContainerId("x"), native_id=native_id)
    try:
        async with sampling(runtime, handle) as sampler:
            usage = await usage_when(
                sampler,
                "x",
                lambda usage: usage.numbers.get(Quantity.DISK_WRITTEN_BYTES, 0) >= 8 << 20,
            )
    finally:
        now = [] if case.name == "docker" else ["--time=0"]
        lab.run(["rm", "-f", *now, native_id])
    numbers = usage.numbers
    assert numbers[Quantity.MEMORY_LIMIT] == 64 << 20
    assert numbers[Quantity.CPU_LIMIT] == 0.5
    assert numbers[Quantity.MEMORY_FREE] <= 64 << 20
    assert numbers[Quantity.FILESYSTEM_SIZE] > 0
    if case.name == "docker":
        assert 3000 <= numbers[Quantity.NETWORK_SENT] < 100_000
        assert Quantity.NETWORK_RECEIVED in numbers
