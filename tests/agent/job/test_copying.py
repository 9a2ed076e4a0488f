"""A task's output as the job's own, and what becomes of it on the disk."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from shipway_agent.job.copying import SlowestReader
from shipway_agent.runtimes.spec import Stream
from tests.agent.job.conftest import StartJob, eventually

STALLED = """
import asyncio
from shipway_agent.job.copying import copy_output
from shipway_agent.runtimes.spec import Chunk

async def output():
    yield Chunk(stream="stderr", data=b"begun")
    yield Chunk(stream="stdout", data=bytes(1 << 20))

async def main():
    copying = asyncio.ensure_future(copy_output(output(), lambda stream, end: None))
    await asyncio.wait([copying], timeout=0.3)
    assert not copying.done()
    copying.cancel()

asyncio.run(main())
"""


async def test_what_was_copied_does_not_stay_on_the_disk(
    start_job: StartJob, tmp_path: Path
) -> None:
    script = f"head -c 60000000 /dev/zero; until [ -e {tmp_path}/go ]; do sleep 0.05; done"
    job = await start_job("/bin/sh", "-c", script, ship_logs=False)
    ending = asyncio.ensure_future(job.end())
    # The two files that come last stay: one is written, one may be needed for the byte before it.
    await eventually(lambda: 0 < len(list(tmp_path.glob("shipway-job-*/*/*/*/output.*"))) <= 2)
    (tmp_path / "go").touch()
    ended = await ending
    assert len(ended.stdout) == 60_000_000
    assert ended.stderr == b""


def test_a_stdout_that_nobody_reads_does_not_keep_the_job_from_ending() -> None:
    with subprocess.Popen([sys.executable, "-c", STALLED], stdout=subprocess.PIPE) as process:
        assert process.wait(timeout=60) == 0


def test_what_one_reader_still_needs_counts_as_unread() -> None:
    moved: list[tuple[Stream, int]] = []
    readers = SlowestReader(2, lambda stream, end: moved.append((stream, end)))
    first, second = readers.note_of(0), readers.note_of(1)
    first("stdout", 10)
    second("stdout", 4)
    second("stderr", 9)
    second("stdout", 12)
    assert moved == [("stdout", 0), ("stdout", 4), ("stderr", 0), ("stdout", 10)]
