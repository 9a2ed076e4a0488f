"""A task that the kernel ends for want of memory, in a memory cgroup of the test's own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipway_agent.runtimes.oom import counter_files
from tests.agent.runtimes.conftest import Case
from tests.agent.runtimes.test_shim import AGENT, agent_arguments, kill_agent

LIMIT_BYTES = 150 << 20


def test_the_counter_is_looked_for_in_both_kinds_of_cgroups() -> None:
    text = "4:memory:/a/b\n1:name=systemd:/x\n3:cpu,memory:/c:d\n0::/e\n"
    assert [str(path) for path in counter_files(text)] == [
        "/sys/fs/cgroup/memory/a/b/memory.oom_control",
        "/sys/fs/cgroup/memory/c:d/memory.oom_control",
        "/sys/fs/cgroup/e/memory.events",
    ]


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A memory cgroup with a limit; its processes are listed in cgroup.procs."""
    name = f"shipway-test-{uuid.uuid4().hex[:8]}"
    for parent, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        folder = parent / name
        try:
            folder.mkdir()
        except OSError:
            continue
        if (folder / limit).exists():
            (folder / limit).write_text(str(LIMIT_BYTES))
            yield folder
            folder.rmdir()
            return
        folder.rmdir()
    pytest.skip("this machine lets us make no memory cgroup")


@pytest.mark.parametrize("case_name", ["process", "bubblewrap"], indirect=True)
async def test_want_of_memory_is_told_from_other_kills(case: Case, small_memory: Path) -> None:
    command = f'echo $$ > {small_memory}/cgroup.procs; exec "$@"'
    eats = f'exec {sys.executable} -c "x = bytearray({3 * LIMIT_BYTES}); print(len(x))"'
    for number, (task, is_oom) in enumerate([(eats, True), ("exec sh -c 'exit 137'", False)]):
        arguments = agent_arguments(case, task, tethered=False, container_id=f"c-{number}")
        agent = await asyncio.to_thread(
            subprocess.Popen,
            ["sh", "-c", command, "sh", sys.executable, "-c", AGENT, arguments],
            stdout=subprocess.PIPE,
        )
        assert agent.stdout is not None
        assert await asyncio.to_thread(agent.stdout.readline) == b"started\n"
        runtime = await case.open()
        (owned,) = [
            one for one in await runtime.list_owned({}) if one.container_id == f"c-{number}"
        ]
        ended = await runtime.wait(owned.handle)
        await asyncio.to_thread(kill_agent, agent)
        assert (ended.code, ended.out_of_memory) == (137, is_oom)
