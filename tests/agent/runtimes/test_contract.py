"""What every runtime must do, on the real thing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from shipway_agent.errors import (
    ContainerRuntimeError,
    ImageNotFound,
    LaunchRefused,
    SpecUnsupported,
)
from shipway_agent.runtimes.spec import (
    Archive,
    ArchiveItem,
    ContainerId,
    ContainerSpec,
    ContainerState,
    Event,
    EventKind,
    ItemKind,
    Mount,
    Runtime,
)
from tests.agent.runtimes.conftest import (
    WITH_IMAGES,
    Case,
    with_images,
    with_socket_too,
    with_walls,
)
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

# The set A7: what environments of users hold.
HOSTILE_ENVIRONMENT = {
    "A": 'b=c "q"',
    "NL": "l1\nl2",
    "EMPTY": "",
    "SP": "  two  blanks  ",
    "DQ": '{"k": "v\\"w"}',
    "SQ": "it's",
    "DOLLAR": "$$ ${HOME} `id` $(id)",
    "BS": "\\n\\t\\\\",
    "UNI": "día😀",
    "LONG": "x" * 70000,
    "INHERIT": "",
    "COMMA": "a,b=c,d",
    "HASH": "# no comment",
    "STAR": "*",
}

WAIT_FOR_EVER = "while :; do sleep 0.1; done"


@pytest.mark.parametrize("code", [0, 7, 127, 137, 143, 255])
async def test_the_exit_status_is_the_programs(
    runtime: Runtime, make_spec: MakeSpec, code: int
) -> None:
    outcome = await run(runtime, make_spec(argv=("sh", "-c", f"echo ran; exit {code}")))
    assert outcome.exit.code == code
    assert outcome.stdout == b"ran\n"
    assert not outcome.exit.out_of_memory


@with_socket_too
async def test_environment_arrives_byte_for_byte(
    runtime: Runtime, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INHERIT", "host")
    outcome = await run(
        runtime,
        make_spec(argv=("cat", "/proc/self/environ"), environment=HOSTILE_ENVIRONMENT),
    )
    seen = dict(
        entry.split(b"=", 1) for entry in outcome.stdout.removesuffix(b"\n").split(b"\0") if entry
    )
    wanted = {os.fsencode(name): os.fsencode(value) for name, value in HOSTILE_ENVIRONMENT.items()}
    assert {name: seen.get(name) for name in wanted} == wanted


async def test_a_name_with_a_dot_arrives_or_is_refused_by_name(
    case: Case, runtime: Runtime, make_spec: MakeSpec
) -> None:
    spec = make_spec(argv=("cat", "/proc/self/environ"), environment={"NAME.WITH.DOT": "1"})
    if case.identifiers_only:
        with pytest.raises(SpecUnsupported, match=r"'NAME\.WITH\.DOT'"):
            await runtime.create(spec, ignore)
    else:
        assert b"NAME.WITH.DOT=1\0" in (await run(runtime, spec)).stdout + b"\0"


async def test_bytes_that_are_no_text_arrive_or_are_refused_by_name(
    case: Case, runtime: Runtime, make_spec: MakeSpec
) -> None:
    spec = make_spec(
        argv=("cat", "/proc/self/environ"), environment={"BAD": os.fsdecode(b"\xff\xfe")}
    )
    if case.utf8_only:
        with pytest.raises(SpecUnsupported, match="'BAD'"):
            await runtime.create(spec, ignore)
    else:
        assert b"BAD=\xff\xfe\0" in (await run(runtime, spec)).stdout


async def test_the_agents_own_environment_is_not_the_tasks(
    runtime: Runtime, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_AGENT", "s3cret")
    outcome = await run(runtime, make_spec(argv=("cat", "/proc/self/environ")))
    assert b"s3cret" not in outcome.stdout
    assert b"PATH=" in outcome.stdout


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"TOO_LONG": "x" * 140_000}, "'TOO_LONG' has 140009 bytes"),
        ({"ZERO": "a\0b"}, "'ZERO' holds a zero byte"),
        ({"": "x"}, "'': that is no name"),
        ({"A=B": "x"}, "'A=B': that is no name"),
    ],
    ids=["too-long", "zero-byte", "no-name", "equals-sign"],
)
async def test_what_no_program_can_be_given_is_refused_by_name(
    runtime: Runtime, make_spec: MakeSpec, environment: dict[str, str], words: str
) -> None:
    with pytest.raises(SpecUnsupported, match=words):
        await runtime.create(make_spec(environment=environment), ignore)
    assert await runtime.list_owned({}) == []


async def test_arguments_arrive_as_they_are(runtime: Runtime, make_spec: MakeSpec) -> None:
    words = ["a b", "", "'", '"', "$HOME", "`id`", "l1\nl2", "*", "día", "--", "-x"]
    outcome = await run(runtime, make_spec(argv=("sh", "-c", 'printf "%s|" "$@"', "name", *words)))
    assert outcome.stdout.removesuffix(b"\n") == "".join(f"{word}|" for word in words).encode()


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


async def test_the_working_folder_is_the_specs(
    case: Case, runtime: Runtime, make_spec: MakeSpec
) -> None:
    spec = make_spec(argv=("sh", "-c", "pwd; touch here"), work_dir="/run/determined/workdir")
    outcome = await run(runtime, spec)
    assert outcome.exit.code == 0
    seen = outcome.stdout.decode().strip()
    assert seen.endswith("/run/determined/workdir")
    if case.has_walls:
        assert seen == "/run/determined/workdir"


@with_socket_too
async def test_archives_are_there_with_mode_owner_and_time(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    def item(path: str, kind: ItemKind, mode: int, content: bytes = b"") -> ArchiveItem:
        return ArchiveItem(path=path, kind=kind, mode=mode, content=content, mtime=1501632000)

    run_dir = Archive(
        path="/",
        items=(
            item("/run/determined", ItemKind.DIRECTORY, 0o700),
            item("/run/determined/workdir", ItemKind.DIRECTORY, 0o755),
        ),
    )
    files = Archive(
        path="/run/determined",
        items=(
            item("entry.sh", ItemKind.FILE, 0o744, b"#!/bin/sh\necho entered\n"),
            item("sec'ret $x", ItemKind.FILE, 0o600, b"\0\xff"),
            item("link", ItemKind.SYMLINK, 0o777, b"entry.sh"),
        ),
    )
    script = (
        "cd ..; stat -c '%a %u:%g %Y %n' . workdir entry.sh \"sec'ret \\$x\";"
        'readlink link; ./link; od -An -tx1 "sec\'ret \\$x"'
    )
    outcome = await run(
        runtime,
        make_spec(
            argv=("sh", "-c", script),
            archives=(run_dir, files),
            work_dir="/run/determined/workdir",
        ),
    )
    assert outcome.stderr == b""
    lines = outcome.stdout.decode().splitlines()
    # The folder's own time is not the archive's where a mount point or a later file touched it.
    assert lines[0].startswith("700 0:0 ")
    assert lines[1].startswith("755 0:0 ")
    assert lines[2:] == [
        "744 0:0 1501632000 entry.sh",
        "600 0:0 1501632000 sec'ret $x",
        "entry.sh",
        "entered",
        " 00 ff",
    ]


@with_walls
async def test_an_archive_beside_the_systems_files_hides_none_of_them(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    archive = Archive(
        path="/",
        items=(
            ArchiveItem(path="/etc/ssh/ssh_config", kind=ItemKind.FILE, content=b"conf\n"),
            ArchiveItem(path="/opt/determined/wheels/a.whl", kind=ItemKind.FILE, content=b"w\n"),
        ),
    )
    script = (
        "cat /etc/ssh/ssh_config /opt/determined/wheels/a.whl; test -f /etc/passwd && echo kept"
    )
    outcome = await run(runtime, make_spec(argv=("sh", "-c", script), archives=(archive,)))
    assert outcome.stdout == b"conf\nw\nkept\n"


@pytest.mark.parametrize("case_name", ["bubblewrap", *WITH_IMAGES, "podman-socket"], indirect=True)
async def test_mounts_are_there_and_read_only_where_asked(
    case: Case, runtime: Runtime, make_spec: MakeSpec, tmp_path: Path
) -> None:
    # Podman's service reads a mount by its commas and colons.
    odd = tmp_path / ("a 'b" if case.name == "podman-socket" else "a 'b,c:d")
    odd.mkdir()
    (odd / "in").write_text("odd\n")
    plain = tmp_path / "plain"
    plain.mkdir()
    spec = make_spec(
        argv=("sh", "-c", "cat /odd/in; echo out > /mnt/out; echo no > /odd/no"),
        mounts=(
            Mount(source=str(odd), target="/odd", read_only=True),
            Mount(source=str(plain), target="/mnt"),
        ),
    )
    outcome = await run(runtime, spec)
    assert outcome.stdout == b"odd\n"
    assert (plain / "out").read_text() == "out\n"
    assert not (odd / "no").exists()
    assert b"ead-only" in outcome.stderr


@with_socket_too
async def test_a_mount_whose_source_is_missing_is_an_error(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    spec = make_spec(mounts=(Mount(source="/no/such/place", target="/no/such/place"),))
    with pytest.raises(ContainerRuntimeError, match="/no/such/place"):
        await start(runtime, spec)


@with_socket_too
async def test_a_missing_program_is_a_refusal_and_no_exit(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    with pytest.raises(LaunchRefused, match="no-such-program") as caught:
        await start(runtime, make_spec(argv=("no-such-program", "--flag")))
    assert caught.value.exit_code in {127, None}


async def test_a_program_that_may_not_run_is_a_refusal(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    with pytest.raises(LaunchRefused):
        await start(runtime, make_spec(argv=("/etc/passwd",)))


@with_images
async def test_a_missing_image_is_named(case: Case, runtime: Runtime, make_spec: MakeSpec) -> None:
    missing = "/no/such/image.sif" if case.name == "apptainer" else "localhost/no/such:image"
    spec = make_spec(image=missing)
    with pytest.raises(ContainerRuntimeError, match="no/such"):
        await runtime.pull(spec, ignore)
    with pytest.raises(ImageNotFound, match="no/such"):
        await start(runtime, spec)


@with_images
async def test_an_image_that_is_here_is_not_pulled(runtime: Runtime, make_spec: MakeSpec) -> None:
    events: list[Event] = []
    await runtime.pull(make_spec(), events.append)
    assert [event.kind for event in events] == [EventKind.PULL_SKIPPED]


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
    async with asyncio.timeout(20):
        assert (await runtime.wait(handle)).code == 5
    assert processes_with(mark) == []


@with_socket_too
async def test_the_exit_status_of_a_handler_is_kept(runtime: Runtime, make_spec: MakeSpec) -> None:
    script = f"trap 'echo told; exit 33' TERM; echo ready; {WAIT_FOR_EVER}"
    handle = await start(runtime, make_spec(argv=("sh", "-c", script)))
    await read_until(runtime, handle, b"ready\n")
    await runtime.signal(handle, signal.SIGTERM)
    async with asyncio.timeout(20):
        assert (await runtime.wait(handle)).code == 33
    assert (await read_all(runtime, handle))[0] == b"ready\ntold\n"
    await runtime.signal(handle, signal.SIGTERM)  # to one that has ended: no error


async def test_usr1_is_another_signal_than_term(runtime: Runtime, make_spec: MakeSpec) -> None:
    script = f"trap 'exit 11' USR1; trap 'exit 22' TERM; echo ready; {WAIT_FOR_EVER}"
    handle = await start(runtime, make_spec(argv=("sh", "-c", script)))
    await read_until(runtime, handle, b"ready\n")
    await runtime.signal(handle, signal.SIGUSR1)
    async with asyncio.timeout(20):
        assert (await runtime.wait(handle)).code == 11


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
