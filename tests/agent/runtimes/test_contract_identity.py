"""Identity: every runtime finds its own containers again, and only those."""

from __future__ import annotations

import asyncio
import signal

from shipway_agent.runtimes.spec import Answers, ContainerId, ContainerState, Runtime
from tests.agent.runtimes.conftest import Case, MakeSpec, with_socket_too
from tests.agent.runtimes.steps import (
    WAIT_FOR_EVER,
    ignore,
    new_mark,
    processes_with,
    read_all,
    read_until,
    run,
    start,
    until,
)


@with_socket_too
async def test_a_running_container_is_found_again(case: Case, make_spec: MakeSpec) -> None:
    first = await case.open()
    script = f"echo before; trap 'echo after; exit 9' TERM; echo ready; {WAIT_FOR_EVER}"
    await read_until(
        first, await start(first, make_spec(argv=("sh", "-c", script), ports=(12345,))), b"ready\n"
    )
    await first.aclose()

    second = await case.open()
    (owned,) = await second.list_owned({})
    assert owned.container_id == "c-1"
    assert (owned.state, owned.exit) == (ContainerState.RUNNING, None)
    assert [address.host_port for address in owned.addresses] == [12345]
    await second.signal(owned.handle, signal.SIGTERM)
    assert (await second.wait(owned.handle)).code == 9
    assert (await read_all(second, owned.handle))[0] == b"before\nready\nafter\n"


@with_socket_too
async def test_a_container_that_ended_meanwhile_is_found_with_exit_and_output(
    case: Case, make_spec: MakeSpec
) -> None:
    first = await case.open()
    handle = await start(first, make_spec(argv=("sh", "-c", "echo bye; exit 7")))
    await first.wait(handle)
    await first.aclose()

    second = await case.open()
    (owned,) = await second.list_owned({})
    assert owned.state is ContainerState.EXITED
    assert owned.exit is not None
    assert owned.exit.code == 7
    assert (await second.wait(owned.handle)).code == 7
    assert await read_all(second, owned.handle) == (b"bye\n", b"")


@with_socket_too
async def test_only_containers_with_the_labels_are_listed(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    agent = "ai.determined.container.agent"
    for number, labels in enumerate([{agent: "a", "x": 'y"=,z'}, {agent: "b"}, {}]):
        await runtime.create(make_spec(id=ContainerId(f"c-{number}"), labels=labels), ignore)
    (mine,) = await runtime.list_owned({agent: "a"})
    assert mine.container_id == "c-0"
    assert mine.state is ContainerState.CREATED
    assert mine.labels["x"] == 'y"=,z'
    assert len(await runtime.list_owned({})) == 3
    assert await runtime.list_owned({agent: "a", "x": "other"}) == []


@with_socket_too
async def test_removal_ends_a_container_and_all_that_was_kept(
    case: Case, runtime: Runtime, make_spec: MakeSpec
) -> None:
    mark = new_mark()
    script = f"mkdir -p d/e; touch d/e/f; chmod 0 d/e; echo ready; exec sleep {mark}"
    handle = await start(
        runtime, make_spec(argv=("sh", "-c", script), work_dir="/run/determined/workdir")
    )
    await read_until(runtime, handle, b"ready\n")
    await runtime.remove(handle)
    assert processes_with(mark) == []
    assert await runtime.list_owned({}) == []
    assert [path for path in case.options.state_dir.rglob("*") if path.is_file()] == []
    await runtime.remove(handle)  # once more is no error


async def test_a_created_container_that_never_ran_can_be_killed_and_removed(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    handle = await runtime.create(make_spec(), ignore)
    await runtime.kill(handle)
    await runtime.remove(handle)
    assert await runtime.list_owned({}) == []


async def test_many_containers_at_once_do_not_mix(runtime: Runtime, make_spec: MakeSpec) -> None:
    async def one(number: int) -> bytes:
        script = f"for i in $(seq 1 200); do echo {number}; done; exit {number}"
        spec = make_spec(id=ContainerId(f"c-{number}"), argv=("sh", "-c", script))
        outcome = await run(runtime, spec)
        assert outcome.exit.code == number
        return outcome.stdout

    outputs = await asyncio.gather(*(one(number) for number in range(6)))
    assert outputs == [b"%d\n" % number * 200 for number in range(6)]


@with_socket_too
async def test_the_processes_of_a_running_container_are_found(
    case: Case, make_spec: MakeSpec
) -> None:
    runtime = await case.open()
    mark = new_mark()
    handle = await runtime.create(make_spec(argv=("sleep", mark)), ignore)
    assert await runtime.processes(handle) is None
    await runtime.start(handle)
    processes = await runtime.processes(handle)
    assert processes is not None
    # Its pid is known a moment before it has become the program.
    await until(lambda: processes.first.pid in processes_with(mark))
    await runtime.kill(handle)
    assert await runtime.processes(handle) is None


@with_socket_too
async def test_a_runtime_that_works_gives_a_sign_of_life(case: Case) -> None:
    runtime = await case.open()
    if isinstance(runtime, Answers):
        await runtime.ping()
