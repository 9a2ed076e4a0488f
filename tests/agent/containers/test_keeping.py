"""Output that the runtime keeps: freed as the master takes it, and read on after a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

from shipway_agent.containers.keeping import OutputKeeping
from shipway_agent.logs.batch import Batch
from shipway_agent.logs.forward import OutputForwarder
from shipway_agent.runtimes.options import RuntimeOptions
from shipway_agent.runtimes.registry import find_runtime
from shipway_agent.runtimes.spec import ContainerId, ContainerSpec, Stream

LIMIT_BYTES = 1 << 20
LINES = 400_000


class Sink:
    """Takes lines, and after some of them nothing any more."""

    is_blocked = False

    def __init__(self, count: int) -> None:
        self.texts: list[bytes] = []
        self.full = asyncio.Event()
        self._count = count

    async def send(self, batch: Batch, on_delivered: object) -> None:
        if len(self.texts) >= self._count:
            self.full.set()
            await asyncio.Event().wait()
        for part in batch.parts:
            self.texts += part.lines.texts
        assert callable(on_delivered)
        on_delivered()


async def test_a_restarted_agent_reads_on_where_the_freed_output_ends(tmp_path: Path) -> None:
    options = RuntimeOptions(
        state_dir=tmp_path, sandbox_mode="process", output_limit_bytes=LIMIT_BYTES
    )
    runtime = await find_runtime("sandbox", options)
    spec = ContainerSpec(id=ContainerId("c-1"), image=None, argv=("seq", str(LINES)))
    handle = await runtime.create(spec, lambda event: None)
    await runtime.start(handle)
    delivered: dict[Stream, int] = {}
    sinks = [Sink(LINES // 3), Sink(LINES)]
    for sink in sinks:
        keeping = OutputKeeping(runtime, handle)
        forwarder = OutputForwarder(
            keeping.open,
            sink,
            delivered=dict(delivered),
            on_delivered=keeping.noting(delivered.__setitem__),
        )
        parts = [asyncio.ensure_future(keeping.release()), asyncio.ensure_future(forwarder.run())]
        async with asyncio.timeout(60):
            waiting = asyncio.ensure_future(sink.full.wait())
            await asyncio.wait([waiting, parts[1]], return_when=asyncio.FIRST_COMPLETED)
        for part in (*parts, waiting):
            part.cancel()
        await asyncio.wait([*parts, waiting])
    texts = [text for sink in sinks for text in sink.texts]
    assert texts == [b"%d\n" % number for number in range(1, LINES + 1)]
    assert sinks[0].texts
    assert sinks[1].texts
    begin = await runtime.first_kept(handle)  # type: ignore[attr-defined] # the sandbox keeps it
    assert begin["stdout"] > LIMIT_BYTES
    await runtime.remove(handle)
    await runtime.aclose()
