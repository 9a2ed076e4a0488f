"""Output that shims keep: bounded, given up piece by piece, and never in the task's way for long."""

from __future__ import annotations

import asyncio
import itertools
import re
import signal
from pathlib import Path

import pytest

from shipway_agent.runtimes.spec import ContainerHandle, ContainerSpec, KeepsOutput, Runtime, Stream
from tests.agent.runtimes.conftest import Case, MakeSpec
from tests.agent.runtimes.steps import read_all, start, until

LIMIT_BYTES = 1 << 20
TOTAL_BYTES = 8 << 20

pytestmark = pytest.mark.parametrize("case_name", ["process", "podman"], indirect=True)


@pytest.fixture
async def bounded(case: Case) -> Runtime:
    """The runtime, keeping a megabyte of output for a task at most."""
    return await case.open(output_limit_bytes=LIMIT_BYTES)


@pytest.fixture
def writer(make_spec: MakeSpec) -> ContainerSpec:
    """A task that writes more than that, numbered so that each byte has its place."""
    return make_spec(
        argv=("sh", "-c", f"seq 10000000 | head -c {TOTAL_BYTES}; echo last >&2; exit 3")
    )


async def test_a_task_that_is_far_ahead_of_its_reader_waits_and_loses_nothing(
    case: Case, bounded: Runtime, writer: ContainerSpec
) -> None:
    assert isinstance(bounded, KeepsOutput)
    handle = await start(bounded, writer)
    await until(lambda: kept_bytes(case) >= LIMIT_BYTES)
    offsets: dict[Stream, int] = {"stdout": 0, "stderr": 0}
    streams = {"stdout": bytearray(), "stderr": bytearray()}
    async with asyncio.timeout(60):
        async for chunk in bounded.output(handle):
            streams[chunk.stream] += chunk.data
            offsets[chunk.stream] += len(chunk.data)
            await bounded.release_output(handle, offsets)
            assert kept_bytes(case) < 3 * LIMIT_BYTES
        assert (await bounded.wait(handle)).code == 3
    assert bytes(streams["stdout"]) == numbers()
    assert streams["stderr"] == b"last\n"


async def test_output_is_read_on_from_where_it_was_left(
    bounded: Runtime, writer: ContainerSpec
) -> None:
    assert isinstance(bounded, KeepsOutput)
    handle = await start(bounded, writer)
    seen = bytearray()
    wanted = numbers()
    for _ in itertools.count():
        at: dict[Stream, int] = {"stdout": len(seen), "stderr": 0}
        await bounded.release_output(handle, at)
        part = await read_some(bounded, handle, at, 300_001)
        seen += part
        if len(seen) >= TOTAL_BYTES:
            break
    assert bytes(seen) == wanted


async def test_a_task_does_not_wait_for_ever_for_a_reader_and_its_end_is_kept(
    case: Case, writer: ContainerSpec
) -> None:
    runtime = await case.open(output_limit_bytes=LIMIT_BYTES, output_patience_s=0.3)
    handle = await start(runtime, writer)
    async with asyncio.timeout(60):
        assert (await runtime.wait(handle)).code == 3
    assert kept_bytes(case) < 3 * LIMIT_BYTES
    stdout, stderr = await read_all(runtime, handle)
    wanted = numbers()
    assert stdout[:LIMIT_BYTES] == wanted[:LIMIT_BYTES]
    assert stdout.endswith(wanted[-16_000:])
    note = re.search(rb"\[shipway: (\d+) bytes of output were lost here: nobody took", stderr)
    assert note is not None
    assert len(stdout) + int(note[1]) == TOTAL_BYTES
    assert stderr.endswith(b"last\n")


async def test_a_held_up_task_goes_on_when_nobody_will_read_it(
    case: Case, bounded: Runtime, writer: ContainerSpec
) -> None:
    assert isinstance(bounded, KeepsOutput)
    handle = await start(bounded, writer)
    await until(lambda: kept_bytes(case) >= LIMIT_BYTES)
    await bounded.discard_output(handle)
    async with asyncio.timeout(60):
        assert (await bounded.wait(handle)).code == 3
    assert kept_bytes(case) < 3 * LIMIT_BYTES


async def test_a_held_up_task_can_be_told_to_end_and_be_killed(
    case: Case, bounded: Runtime, make_spec: MakeSpec
) -> None:
    script = "trap 'exit 7' TERM; while :; do head -c 100000 /dev/zero; done"
    handle = await start(bounded, make_spec(argv=("sh", "-c", script)))
    await until(lambda: kept_bytes(case) >= LIMIT_BYTES)
    await bounded.signal(handle, signal.SIGTERM)
    await bounded.kill(handle)
    async with asyncio.timeout(60):
        assert (await bounded.wait(handle)).code in {7, 137}
    assert len((await read_all(bounded, handle))[0]) >= LIMIT_BYTES


async def test_without_a_limit_nobody_waits(
    runtime: Runtime, writer: ContainerSpec, case: Case
) -> None:
    handle = await start(runtime, writer)
    async with asyncio.timeout(60):
        assert (await runtime.wait(handle)).code == 3
    assert (await read_all(runtime, handle))[0] == numbers()


async def read_some(
    runtime: KeepsOutput, handle: ContainerHandle, at: dict[Stream, int], count: int
) -> bytes:
    """Read *count* bytes of stdout from an offset on, or to the end."""
    seen = bytearray()
    output = runtime.output_from(handle, at)
    async with asyncio.timeout(60):
        async for chunk in output:
            if chunk.stream == "stdout":
                seen += chunk.data
            if len(seen) >= count:
                break
    await output.aclose()  # type: ignore[attr-defined] # all runtimes have generators
    return bytes(seen)


def numbers() -> bytes:
    """Return what the task writes."""
    lines = b"".join(b"%d\n" % number for number in range(1, 1_400_000))
    return lines[:TOTAL_BYTES]


def kept_bytes(case: Case) -> int:
    """Return how much output lies on disk."""
    return sum(size_of(path) for path in case.options.state_dir.glob("*/*/output.*"))


def size_of(path: Path) -> int:
    """Return a file's size; none if it is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
