"""Output: what every runtime must keep of it, byte for byte."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shipway_agent.runtimes.spec import Runtime
from tests.agent.runtimes.conftest import SANDBOXES, Case, MakeSpec, with_socket_too
from tests.agent.runtimes.steps import WAIT_FOR_EVER, read_all, read_until, run, start


@with_socket_too
async def test_output_is_kept_byte_for_byte(runtime: Runtime, make_spec: MakeSpec) -> None:
    script = (
        r"printf 'caf\303\251 ok\n\377\376 bad\nnul\000x\n\360\237\230\200 four\ncut\303';"
        r" sleep 0.3; printf '\251 joined\nnonl'"
    )
    outcome = await run(runtime, make_spec(argv=("sh", "-c", script)))
    wanted = (
        b"caf\xc3\xa9 ok\n\xff\xfe bad\nnul\0x\n\xf0\x9f\x98\x80 four\ncut\xc3\xa9 joined\nnonl"
    )
    assert outcome.stdout == wanted


@with_socket_too
async def test_stdout_and_stderr_are_told_apart(runtime: Runtime, make_spec: MakeSpec) -> None:
    script = "echo one; echo two >&2; echo three; echo four >&2"
    outcome = await run(runtime, make_spec(argv=("sh", "-c", script)))
    assert (outcome.stdout, outcome.stderr) == (b"one\nthree\n", b"two\nfour\n")


@with_socket_too
async def test_a_line_of_megabytes_comes_whole(runtime: Runtime, make_spec: MakeSpec) -> None:
    script = r"head -c 5242880 /dev/zero | tr '\0' x; echo; echo done"
    outcome = await run(runtime, make_spec(argv=("sh", "-c", script)))
    assert outcome.stdout == b"x" * 5242880 + b"\ndone\n"


async def test_output_that_nobody_reads_does_not_hold_up_the_task(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    handle = await start(
        runtime, make_spec(argv=("sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' x"))
    )
    async with asyncio.timeout(60):
        assert (await runtime.wait(handle)).code == 0


async def test_output_can_be_read_again_and_while_it_is_read(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    script = "for i in $(seq 1 2000); do echo line $i; done; echo end >&2"
    handle = await start(runtime, make_spec(argv=("sh", "-c", script)))
    first, second = await asyncio.gather(read_all(runtime, handle), read_all(runtime, handle))
    assert first == second == await read_all(runtime, handle)
    assert first[0] == b"".join(b"line %d\n" % number for number in range(1, 2001))
    assert first[1] == b"end\n"


async def test_output_comes_while_the_task_runs(runtime: Runtime, make_spec: MakeSpec) -> None:
    handle = await start(runtime, make_spec(argv=("sh", "-c", f"echo ready; {WAIT_FOR_EVER}")))
    assert await read_until(runtime, handle, b"ready\n") == b"ready\n"


@pytest.mark.parametrize(
    "case_name",  # the lab's apptainer runs as root alone
    [*SANDBOXES, "docker", "podman", "enroot", "podman-socket"],
    indirect=True,
)
async def test_a_task_of_another_user_opens_its_streams_anew(
    case: Case, make_spec: MakeSpec, open_folder: Path
) -> None:
    """As launchers of ranks do, to write past what stands between them and the task."""
    runtime = await case.open(state_dir=open_folder / "state")
    script = "echo out > /proc/$$/fd/1; echo err > /proc/$$/fd/2"
    outcome = await run(runtime, make_spec(argv=("sh", "-c", script), user="1234:5678"))
    assert (outcome.stdout, outcome.stderr) == (b"out\n", b"err\n")
    for owned in await runtime.list_owned({}):
        await runtime.remove(owned.handle)
