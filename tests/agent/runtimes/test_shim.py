"""What shims hold when the agent, the shim itself or the disk fails."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from shipway_agent.runtimes.spec import ContainerSpec, ContainerState, Runtime
from tests.agent.runtimes.conftest import SANDBOXES, Case
from tests.agent.runtimes.steps import (
    ignore,
    new_mark,
    processes_with,
    read_all,
    read_until,
    run,
    start,
    until,
)

MakeSpec = Callable[..., ContainerSpec]

sandboxed = pytest.mark.parametrize("case_name", SANDBOXES, indirect=True)
held = pytest.mark.parametrize(
    "case_name", [*SANDBOXES, "podman", "apptainer", "enroot"], indirect=True
)
as_plain_process = pytest.mark.parametrize("case_name", ["process"], indirect=True)

# What an agent does, in a process of its own that can be killed.
AGENT = """
import asyncio, json, sys
from pathlib import Path
from shipway_agent.runtimes.options import RuntimeOptions
from shipway_agent.runtimes.registry import find_runtime
from shipway_agent.runtimes.spec import ContainerId, ContainerSpec

async def main(name, state_dir, mode, tethered, environ, image, script, container_id):
    options = RuntimeOptions(
        state_dir=Path(state_dir), sandbox_mode=mode, tethered=tethered, environ=environ
    )
    runtime = await find_runtime(name, options)
    spec = ContainerSpec(id=ContainerId(container_id), image=image, argv=("sh", "-c", script))
    handle = await runtime.create(spec, lambda event: None)
    await runtime.start(handle)
    print("started", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main(*json.loads(sys.argv[1])))
"""

# Signals 32 and 33 belong to the C library, which alone decides what becomes of them.
OF_THE_C_LIBRARY = 0b11 << 31


def agent_arguments(case: Case, script: str, *, tethered: bool, container_id: str = "c-1") -> str:
    """Return what `AGENT` needs to run *script* in a container."""
    options = case.options
    return json.dumps(
        [
            case.runtime_name,
            str(options.state_dir),
            options.sandbox_mode,
            tethered,
            dict(options.environ),
            case.image,
            script,
            container_id,
        ]
    )


def start_agent(case: Case, script: str, *, tethered: bool) -> subprocess.Popen[bytes]:
    """Start an agent that starts a container, and wait until it runs."""
    arguments = agent_arguments(case, script, tethered=tethered)
    agent = subprocess.Popen([sys.executable, "-c", AGENT, arguments], stdout=subprocess.PIPE)
    assert agent.stdout is not None
    assert agent.stdout.readline() == b"started\n"
    return agent


def kill_agent(agent: subprocess.Popen[bytes]) -> None:
    """End an agent as a crash would."""
    agent.kill()
    agent.communicate()


@held
async def test_a_task_outlives_the_killed_agent_and_is_found_again(case: Case) -> None:
    script = "echo before; trap 'echo after; exit 9' TERM; while :; do sleep 0.1; done"
    kill_agent(await asyncio.to_thread(start_agent, case, script, tethered=False))
    runtime = await case.open()
    (owned,) = await runtime.list_owned({})
    assert owned.state is ContainerState.RUNNING
    await read_until(runtime, owned.handle, b"before\n")
    await runtime.signal(owned.handle, signal.SIGTERM)
    assert (await runtime.wait(owned.handle)).code == 9
    assert await read_all(runtime, owned.handle) == (b"before\nafter\n", b"")


@sandboxed
async def test_a_task_that_ends_while_no_agent_is_there_keeps_its_exit_and_output(
    case: Case,
) -> None:
    kill_agent(
        await asyncio.to_thread(start_agent, case, "sleep 0.3; echo out; exit 5", tethered=False)
    )
    runtime = await case.open()
    (owned,) = await runtime.list_owned({})
    assert (await runtime.wait(owned.handle)).code == 5
    assert await read_all(runtime, owned.handle) == (b"out\n", b"")


@held
async def test_a_tethered_task_ends_with_its_agent(case: Case) -> None:
    mark = new_mark()
    agent = await asyncio.to_thread(
        start_agent, case, f"trap '' TERM HUP; sleep {mark} & wait", tethered=True
    )
    await until(lambda: processes_with(mark))
    kill_agent(agent)
    await until(lambda: not processes_with(mark))
    runtime = await case.open()
    (owned,) = await runtime.list_owned({})
    assert (await runtime.wait(owned.handle)).code == 137


@pytest.mark.parametrize("case_name", [*SANDBOXES, "apptainer", "enroot"], indirect=True)
async def test_a_task_whose_shim_was_killed_is_lost_and_leaves_nothing_running(
    case: Case, runtime: Runtime, make_spec: MakeSpec
) -> None:
    mark = new_mark()
    leave = "setsid" if case.image is None else ""  # the lab's images have no such program
    handle = await start(
        runtime,
        make_spec(argv=("sh", "-c", f"{leave} sleep {mark} & echo out; (sleep {mark}); true")),
    )
    await read_until(runtime, handle, b"out\n")
    await until(lambda: len(processes_with(mark)) == 2)
    reading = asyncio.ensure_future(read_all(runtime, handle))
    os.kill(shim_pid(case), signal.SIGKILL)
    ended = await runtime.wait(handle)
    async with asyncio.timeout(20):  # long before it would look without being told
        assert await reading == (b"out\n", b"")
    assert ended.code is None
    assert "nobody knows its exit status" in ended.reason
    assert processes_with(mark) == []  # although no agent has ended them
    assert await read_all(runtime, handle) == (b"out\n", b"")
    (owned,) = await runtime.list_owned({})
    assert (owned.state, owned.exit) == (ContainerState.EXITED, ended)
    await runtime.kill(handle)
    assert processes_with(mark) == []


@sandboxed
async def test_secrets_are_gone_from_disk_once_the_task_runs(
    case: Case, runtime: Runtime, make_spec: MakeSpec
) -> None:
    secret = "s3cret-value"
    spec = make_spec(argv=("sh", "-c", "echo on; sleep 60"), environment={"TOKEN": secret})
    handle = await start(runtime, spec)
    await read_until(runtime, handle, b"on\n")
    files = [path for path in case.options.state_dir.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if secret.encode() in path.read_bytes()] == []
    assert [path for path in files if path.stat().st_mode & 0o077] == []
    assert secret not in process_text(shim_pid(case), "environ")
    for pid in os.listdir("/proc"):
        assert not pid.isdigit() or secret not in process_text(int(pid), "cmdline")


@sandboxed
async def test_starting_twice_runs_the_program_once(runtime: Runtime, make_spec: MakeSpec) -> None:
    handle = await runtime.create(make_spec(argv=("sh", "-c", "echo once")), ignore)
    await asyncio.gather(runtime.start(handle), runtime.start(handle))
    await runtime.wait(handle)
    await runtime.start(handle)
    assert await read_all(runtime, handle) == (b"once\n", b"")


@sandboxed
async def test_a_start_that_was_cancelled_can_be_killed(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    mark = new_mark()
    handle = await runtime.create(make_spec(argv=("sleep", mark)), ignore)
    starting = asyncio.create_task(runtime.start(handle))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await runtime.kill(handle)
    assert processes_with(mark) == []


@sandboxed
async def test_nothing_of_the_agents_state_is_inherited(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    try:
        script = "grep -E '^Sig(Blk|Ign):' /proc/self/status; umask; ls /proc/self/fd"
        outcome = await run(runtime, make_spec(argv=("sh", "-c", script)))
    finally:
        signal.signal(signal.SIGHUP, before)
        os.close(read_end)
        os.close(write_end)
    lines = outcome.stdout.decode().splitlines()
    masks = [int(line.partition(":")[2], 16) & ~OF_THE_C_LIBRARY for line in lines[:2]]
    assert masks == [0, 0]
    assert lines[2] == "0022"
    assert lines[3:] == ["0", "1", "2", "3"]  # 3 is the folder that ls reads


@as_plain_process
async def test_a_signal_is_told_from_an_exit_status(runtime: Runtime, make_spec: MakeSpec) -> None:
    by_signal = (await run(runtime, make_spec(argv=("sh", "-c", "kill -9 $$")))).exit
    assert (by_signal.code, by_signal.signal) == (137, signal.SIGKILL)
    spec = replace(make_spec(argv=("sh", "-c", "exit 137")), id="c-2")
    by_itself = (await run(runtime, spec)).exit
    assert (by_itself.code, by_itself.signal) == (137, None)


@as_plain_process
async def test_output_that_finds_no_room_on_disk_leaves_a_note(
    case: Case, make_spec: MakeSpec, small_disk: Path
) -> None:
    runtime = await case.open(state_dir=small_disk / "state")
    script = (
        "echo first; head -c 2000000 /dev/zero | tr '\\0' x; echo full >&2;"
        f" rm {small_disk}/ballast; echo again; exit 3"
    )
    outcome = await run(runtime, make_spec(argv=("sh", "-c", script)))
    assert outcome.exit.code == 3
    assert outcome.stdout.startswith(b"first\nxxx")
    assert len(outcome.stdout) < 1_500_000
    assert b" bytes of output were lost here: No space left on device]\n" in outcome.stderr
    for owned in await runtime.list_owned({}):
        await runtime.remove(owned.handle)


@as_plain_process
async def test_the_last_output_has_its_place_on_a_full_disk(
    case: Case, make_spec: MakeSpec, small_disk: Path, tmp_path: Path
) -> None:
    runtime = await case.open(state_dir=small_disk / "state")
    script = (
        f"until test -e {tmp_path}/go; do sleep 0.05; done;"
        f" dd if=/dev/zero of={small_disk}/filling bs=4096 2>/dev/null;"
        f" dd if=/dev/zero of={small_disk}/rest bs=1 2>/dev/null;"
        " echo status $?; echo sorry >&2; exit 3"
    )
    handle = await start(runtime, make_spec(argv=("sh", "-c", script)))
    (tmp_path / "go").touch()
    assert await read_all(runtime, handle) == (b"status 1\n", b"sorry\n")
    assert (await runtime.wait(handle)).code == 3
    for owned in await runtime.list_owned({}):
        await runtime.remove(owned.handle)


def process_text(pid: int, entry: str) -> str:
    """Return what /proc says of a process; nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/{entry}").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def shim_pid(case: Case) -> int:
    """Return the pid of the only shim."""
    (path,) = case.options.state_dir.glob("*/*/started.json")
    pid: int = json.loads(path.read_bytes())["shim"]["pid"]
    return pid
