"""Running a program with little cost: what the transports' common suite does not try."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import threading

import pytest

from shipway_launcher.errors import CommandTimedOut
from shipway_launcher.transport.base import Command, Completed
from shipway_launcher.transport.local import LocalTransport


async def run(script: str, *, stdin: bytes = b"", timeout_s: float = 60) -> Completed:
    own = LocalTransport("whoever", {"PATH": "/usr/bin:/bin"})
    return await own.run(Command(argv=("sh", "-c", script), stdin=stdin, timeout_s=timeout_s))


def open_files() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


async def test_a_large_input_and_output_pass_each_other() -> None:
    data = os.urandom(3 << 20)
    done = await run("cat; cat /dev/null >&2", stdin=data)
    assert done.stdout == data


async def test_input_that_is_not_wanted_is_no_error() -> None:
    done = await run("exec <&-; sleep 0.1; exit 3", stdin=bytes(1 << 20))
    assert done.exit_status == 3


async def test_a_program_that_closes_its_outputs_is_waited_for() -> None:
    assert (await run("exec >&- 2>&-; sleep 0.3; exit 5")).exit_status == 5


async def test_a_kernel_without_handles_of_processes_will_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: int) -> int:
        raise OSError(errno.ENOSYS, "not in this kernel")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert (await run("exec >&- 2>&-; sleep 0.3; exit 5")).exit_status == 5
    with pytest.raises(CommandTimedOut):
        await run("sleep 60", timeout_s=0.2)


async def test_the_signal_that_ended_it_is_told() -> None:
    assert (await run("kill -9 $$")).exit_status == -9


async def test_children_that_keep_the_outputs_open_are_ended_with_it() -> None:
    mark = f"613.{os.getpid()}"  # another process of tests has another one
    with pytest.raises(CommandTimedOut):
        await run(f"sleep {mark} & exit 0", timeout_s=0.5)
    async with asyncio.timeout(60):
        while f"sleep {mark}\n" in (await run("ps -eo args")).stdout_text:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_nothing_is_left_open_and_no_thread_is_made() -> None:
    await run("true")
    gc.collect()  # what other tests have left is not closed meanwhile
    before, threads = open_files(), threading.active_count()
    for number in range(20):
        assert (await run(f"cat; exit {number}", stdin=b"x")).exit_status == number
    with pytest.raises(CommandTimedOut):
        await run("sleep 60", timeout_s=0.1)
    assert open_files() == before
    assert threading.active_count() <= threads
