"""Lines per second of a task's output through the agent, against reading the same pipe raw.

A process of its own writes lines into a pipe as fast as it is read. "raw" reads them and counts
bytes: the limit. "split" makes lines of them. "encoded" makes them messages of the websocket in the
outbox, which a master confirms at once: all that the agent does but the socket.

    python benchmarks/agent_logs.py [--lines 500000] [--width 80] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from shipway_agent.containers.reports import Reports
from shipway_agent.logs.forward import OutputForwarder
from shipway_agent.logs.lines import Line, LineSplitter
from shipway_agent.master.outbox import Outbox
from shipway_agent.runtimes.spec import Chunk, ContainerId

_READ_BYTES = 64 << 10
_writer = """
import sys
lines, width = int(sys.argv[1]), int(sys.argv[2])
block = (b"x" * (width - 1) + b"\\n") * 1000
for _ in range(lines // 1000):
    sys.stdout.buffer.write(block)
"""

Reader = Callable[[int], Coroutine[Any, Any, int]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=500_000)
    parser.add_argument("--width", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    lines = options.lines // 1000 * 1000
    print(f"{lines} lines of {options.width} bytes, median of {options.rounds} rounds")
    readers: dict[str, Reader] = {"raw": _raw, "split": _split, "encoded": _encode}
    rates: dict[str, float] = {}
    for name, reader in readers.items():
        seconds = [_time(reader, lines, options.width) for _ in range(options.rounds)]
        rates[name] = lines / statistics.median(seconds)
        ratio = rates[name] / rates["raw"]
        megabytes = rates[name] * options.width / 1e6
        print(f"{name:8} {rates[name]:12.0f} lines/s {megabytes:8.1f} MB/s  ratio {ratio:.3f}")


def _time(reader: Reader, lines: int, width: int) -> float:
    with subprocess.Popen(
        [sys.executable, "-c", _writer, str(lines), str(width)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        begun = time.perf_counter()
        seen = asyncio.run(reader(process.stdout.fileno()))
        seconds = time.perf_counter() - begun
    expected = lines * width if reader is _raw else lines
    if seen != expected:
        raise RuntimeError(f"{reader.__name__} saw {seen}, not {expected}")
    return seconds


async def _raw(descriptor: int) -> int:
    total = 0
    while data := os.read(descriptor, _READ_BYTES):
        total += len(data)
    return total


async def _split(descriptor: int) -> int:
    splitter, total = LineSplitter(), 0
    while data := os.read(descriptor, _READ_BYTES):
        total += len(splitter.feed("stdout", data, time.monotonic()))
    return total + len(splitter.flush())


async def _encode(descriptor: int) -> int:
    outbox = Outbox()
    container = ContainerId("0d9c2c5e-3c43-4a53-9f0b-9c1b9d5b7a11")
    delivered = 0

    def note(_stream: str, _end: int) -> None:
        nonlocal delivered
        delivered += 1

    forwarder = OutputForwarder(
        lambda: _chunks(descriptor),
        _Sink(container, Reports(outbox, "gpu-07")),
        delivered={},
        on_delivered=note,
    )
    taking = asyncio.ensure_future(_take(outbox))
    await forwarder.run()
    await outbox.wait_empty()
    taking.cancel()
    return delivered


async def _take(outbox: Outbox) -> None:
    """Be the link and a master that has read each message at once."""
    while True:
        entry = await outbox.take()
        outbox.confirm(entry.number)


async def _chunks(descriptor: int) -> AsyncIterator[Chunk]:
    while data := os.read(descriptor, _READ_BYTES):
        yield Chunk(stream="stdout", data=data)
        await asyncio.sleep(0)


class _Sink:
    def __init__(self, container: ContainerId, reports: Reports) -> None:
        self._container = container
        self._reports = reports

    @property
    def has_room(self) -> bool:
        return self._reports.has_room

    async def wait_room(self) -> None:
        await self._reports.wait_room()

    def take(self, line: Line, on_read: Callable[[], None]) -> None:
        self._reports.output(self._container, line, on_read)


if __name__ == "__main__":
    main()
