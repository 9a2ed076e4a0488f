"""Short words for what the tests of runtimes do again and again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from shipway_agent.runtimes.spec import (
    Chunk,
    ContainerHandle,
    ContainerSpec,
    Event,
    Exit,
    Runtime,
)

WAIT_FOR_EVER = "while :; do sleep 0.1; done"
"""Shell words for the end of a script whose traps must be heard."""


def ignore(event: Event) -> None:
    """Take an event and do nothing."""


@dataclass
class Outcome:
    """A container's whole life."""

    exit: Exit
    stdout: bytes
    stderr: bytes


async def start(runtime: Runtime, spec: ContainerSpec) -> ContainerHandle:
    """Make and start a container."""
    handle = await runtime.create(spec, ignore)
    await runtime.start(handle)
    return handle


async def run(runtime: Runtime, spec: ContainerSpec) -> Outcome:
    """Run a container to its end."""
    handle = await start(runtime, spec)
    async with asyncio.timeout(60):
        stdout, stderr = await read_all(runtime, handle)
        ended = await runtime.wait(handle)
    return Outcome(exit=ended, stdout=stdout, stderr=stderr)


async def read_all(runtime: Runtime, handle: ContainerHandle) -> tuple[bytes, bytes]:
    """Read all output, to the container's end."""
    streams = {"stdout": bytearray(), "stderr": bytearray()}
    async for chunk in runtime.output(handle):
        streams[chunk.stream] += chunk.data
    return bytes(streams["stdout"]), bytes(streams["stderr"])


async def read_until(runtime: Runtime, handle: ContainerHandle, word: bytes) -> bytes:
    """Read stdout until it has *word* in it."""
    seen = bytearray()
    async with asyncio.timeout(60):
        output: AsyncIterator[Chunk] = runtime.output(handle)
        async for chunk in output:
            if chunk.stream == "stdout":
                seen += chunk.data
            if word in seen:
                break
        else:
            raise AssertionError(f"the output ended without {word!r}: {bytes(seen)!r}")
        await output.aclose()  # type: ignore[attr-defined] # all runtimes have generators
    return bytes(seen)


def new_mark() -> str:
    """Return an argument for `sleep`, of about a day, that no other process here has."""
    return f"{random.randrange(80000, 90000)}.{random.randrange(10**6, 10**7)}"


def processes_with(word: str) -> list[int]:
    """Return the pids of all processes of this machine with *word* among their arguments."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if word.encode() in words:
            found.append(int(path.parent.name))
    return found


async def until(is_true: Callable[[], object]) -> None:
    """Wait until something is so; it must come true in a minute."""
    async with asyncio.timeout(60):
        while not is_true():  # noqa: ASYNC110 (what happens in other processes has no event)
            await asyncio.sleep(0.02)
