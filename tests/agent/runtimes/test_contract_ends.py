"""Ends: exit status, signals, and nothing left behind, in every runtime."""

from __future__ import annotations

import asyncio
import signal

from shipway_agent.runtimes.spec import ContainerId, Runtime
from tests.agent.runtimes.conftest import MakeSpec, with_socket_too
from tests.agent.runtimes.steps import (
    WAIT_FOR_EVER,
    new_mark,
    processes_with,
    read_all,
    read_until,
    run,
    start,
    until,
)


async def test_the_exit_status_is_the_programs(runtime: Runtime, make_spec: MakeSpec) -> None:
    codes = (0, 7, 127, 137, 143, 255)
    specs = [
        make_spec(id=ContainerId(f"c-{code}"), argv=("sh", "-c", f"echo ran; exit {code}"))
        for code in codes
    ]
    outcomes = await asyncio.gather(*(run(runtime, spec) for spec in specs))
    assert [outcome.exit.code for outcome in outcomes] == list(codes)
    assert {outcome.stdout for outcome in outcomes} == {b"ran\n"}
    assert not any(outcome.exit.out_of_memory for outcome in outcomes)


@with_socket_too
async def test_kill_leaves_no_process(runtime: Runtime, make_spec: MakeSpec) -> None:
    marks = [new_mark(), new_mark(), new_mark()]
    script = (
        "trap '' TERM; sleep {} & (sleep {} &) ; (trap '' HUP; sh -c 'sleep {} & exec true') &"
        " echo ready; wait; wait"
    ).format(*marks)
    handle = await start(runtime, make_spec(argv=("sh", "-c", script)))
    await read_until(runtime, handle, b"ready\n")
    for mark in marks:
        await until(lambda mark=mark: processes_with(mark))
    await runtime.kill(handle)
    assert [processes_with(mark) for mark in marks] == [[], [], []]
    assert (await runtime.wait(handle)).code == 137
    await runtime.kill(handle)  # once more is no error


async def test_what_the_first_process_leaves_behind_ends_with_it(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    mark = new_mark()
    handle = await start(runtime, make_spec(argv=("sh", "-c", f"sleep {mark} & exit 5")))
    async with asyncio.timeout(60):
        assert (await runtime.wait(handle)).code == 5
    assert processes_with(mark) == []


@with_socket_too
async def test_the_exit_status_of_a_handler_is_kept(runtime: Runtime, make_spec: MakeSpec) -> None:
    script = f"trap 'echo told; exit 33' TERM; echo ready; {WAIT_FOR_EVER}"
    handle = await start(runtime, make_spec(argv=("sh", "-c", script)))
    await read_until(runtime, handle, b"ready\n")
    await runtime.signal(handle, signal.SIGTERM)
    async with asyncio.timeout(60):
        assert (await runtime.wait(handle)).code == 33
    assert (await read_all(runtime, handle))[0] == b"ready\ntold\n"
    await runtime.signal(handle, signal.SIGTERM)  # to one that has ended: no error


async def test_usr1_is_another_signal_than_term(runtime: Runtime, make_spec: MakeSpec) -> None:
    script = f"trap 'exit 11' USR1; trap 'exit 22' TERM; echo ready; {WAIT_FOR_EVER}"
    handle = await start(runtime, make_spec(argv=("sh", "-c", script)))
    await read_until(runtime, handle, b"ready\n")
    await runtime.signal(handle, signal.SIGUSR1)
    async with asyncio.timeout(60):
        assert (await runtime.wait(handle)).code == 11
