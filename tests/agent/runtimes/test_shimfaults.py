"""What becomes of a start when the shim, the agent or the disk fails in the middle of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shipway_agent.errors import RuntimeUnavailable, SpecUnsupported
from shipway_agent.runtimes import shimcontrol
from shipway_agent.runtimes.shimcontrol import ShimControl
from shipway_agent.runtimes.shimfiles import (
    CLAIM,
    LAUNCH,
    STARTED,
    Launch,
    PayloadKind,
    find_started,
    save_record,
)
from shipway_agent.runtimes.spec import (
    Archive,
    ArchiveItem,
    ContainerState,
    ItemKind,
    KeepsOutput,
    Runtime,
)
from tests.agent.runtimes.conftest import Case, MakeSpec
from tests.agent.runtimes.steps import ignore, new_mark, processes_with, until

# Speaks as bwrap does to a shim, and fills the disk before the task's first process is there.
FILLS_THE_DISK = """#!/bin/sh
cd {disk}
until [ -e held/started.json ]; do sleep 0.01; done
cat /dev/zero > filling 2>/dev/null
sleep {mark} &
echo '{{"child-pid": '$$'}}' > /proc/self/fd/$2
wait
"""

as_plain_process = pytest.mark.parametrize("case_name", ["process"], indirect=True)


def test_a_shim_that_cannot_have_its_folder_says_so(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "shipway_agent.shim", str(tmp_path / "gone")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "No such file or directory" in done.stderr


@pytest.mark.parametrize("case_name", ["process", "podman"], indirect=True)
async def test_a_start_that_a_shim_has_died_of_fails_instead_of_waiting(
    case: Case, runtime: Runtime, make_spec: MakeSpec
) -> None:
    handle = await runtime.create(make_spec(), ignore)
    (folder,) = case.options.state_dir.glob("*/c-1")
    (folder / CLAIM).touch()  # as a shim leaves it that was killed at once, with its guard
    async with asyncio.timeout(60):
        with pytest.raises(RuntimeUnavailable, match="before it had started anything"):
            await runtime.start(handle)
        await runtime.remove(handle)


async def test_a_disk_that_fills_up_while_a_task_comes_up_does_not_end_it(
    small_disk: Path, tmp_path: Path
) -> None:
    mark = new_mark()
    folder = small_disk / "held"
    folder.mkdir()
    program = tmp_path / "bwrap"
    program.write_text(FILLS_THE_DISK.format(disk=small_disk, mark=mark))
    program.chmod(0o755)
    launch = Launch(
        kind=PayloadKind.BUBBLEWRAP, argv=(str(program),), environment=dict(os.environ), folder="/"
    )
    save_record(folder / LAUNCH, launch)
    control = ShimControl(None)
    await control.launch(folder)
    await until(lambda: processes_with(mark))
    started = find_started(folder / STARTED)
    assert started is not None
    assert started.payload is None  # there is no room to say it
    (small_disk / "filling").unlink()
    async with asyncio.timeout(60):
        assert await shimcontrol.wait_running(folder) is None
    await shimcontrol.kill(folder)
    assert processes_with(mark) == []
    await control.aclose()


@as_plain_process
async def test_a_start_that_finds_a_full_disk_leaves_nothing_running(
    case: Case, make_spec: MakeSpec, small_disk: Path
) -> None:
    runtime = await case.open(state_dir=small_disk / "state")
    mark = new_mark()
    handle = await runtime.create(make_spec(argv=("sh", "-c", f"sleep {mark} & wait")), ignore)
    fill(small_disk / "filling")
    with pytest.raises(RuntimeUnavailable, match="No space left on device"):
        await runtime.start(handle)
    assert processes_with(mark) == []
    await runtime.remove(handle)


@as_plain_process
async def test_what_a_killed_agent_was_making_is_removed_by_the_next(
    case: Case, make_spec: MakeSpec
) -> None:
    first = await case.open()
    handle = await first.create(make_spec(), ignore)
    half = case.options.state_dir / "sandbox" / "c-2"
    (half / "root" / "secret").mkdir(parents=True)
    second = await case.open()
    assert not half.exists()
    (owned,) = await second.list_owned({})
    assert owned.state is ContainerState.CREATED
    assert isinstance(second, KeepsOutput)
    await second.remove(handle)


@as_plain_process
async def test_what_is_being_made_is_no_leftover(case: Case, make_spec: MakeSpec) -> None:
    archive = Archive(
        path="/",
        items=tuple(
            ArchiveItem(path=f"f{number}", kind=ItemKind.FILE, mode=0o644, content=b"x")
            for number in range(2000)
        ),
    )
    first = await case.open()
    making = asyncio.ensure_future(first.create(make_spec(archives=(archive,)), ignore))
    await until(lambda: list(case.options.state_dir.glob("sandbox/c-1")))
    await case.open()  # as `check` does
    await making


@as_plain_process
async def test_files_that_cannot_be_made_leave_no_container(
    case: Case, runtime: Runtime, make_spec: MakeSpec
) -> None:
    items = (
        ArchiveItem(path="a", kind=ItemKind.FILE, mode=0o644, content=b"x"),
        ArchiveItem(path="a/b", kind=ItemKind.DIRECTORY, mode=0o755),
    )
    spec = make_spec(archives=(Archive(path="/", items=items),))
    with pytest.raises((OSError, SpecUnsupported)):
        await runtime.create(spec, ignore)
    assert list(case.options.state_dir.glob("sandbox/*")) == []


def fill(path: Path) -> None:
    """Write a file until the disk is full."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as stream:
        while True:
            stream.write(b"\0" * 4096)
