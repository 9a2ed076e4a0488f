"""What a spec may ask of an engine, seen from inside the container."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest

from shipway_agent.errors import ContainerRuntimeError, LaunchRefused
from shipway_agent.runtimes.spec import (
    Archive,
    ArchiveItem,
    ContainerId,
    Device,
    Event,
    ItemKind,
    Mount,
    Runtime,
    Tmpfs,
)
from tests.agent.runtimes.conftest import MakeSpec
from tests.agent.runtimes.steps import read_until, run, start
from tests.lab.docker import Docker

pytestmark = pytest.mark.parametrize("case_name", ["docker", "podman-socket"], indirect=True)


async def shown(runtime: Runtime, make_spec: MakeSpec, script: str, **changes: object) -> list[str]:
    """Return the lines that *script* prints in a container."""
    outcome = await run(runtime, make_spec(argv=("sh", "-c", script), **changes))
    assert outcome.exit.code == 0, outcome
    return outcome.stdout.decode().splitlines()


async def test_user_and_archives_have_the_owners_of_the_order(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    def item(path: str, kind: ItemKind, mode: int, owner: int) -> ArchiveItem:
        return ArchiveItem(path=path, kind=kind, mode=mode, uid=owner, gid=owner, content=b"")

    user = Archive(
        path="/",
        items=(
            item("/run/determined", ItemKind.DIRECTORY, 0o700, 1000),
            item("/run/determined/id_rsa", ItemKind.FILE, 0o600, 1000),
        ),
    )
    root = Archive(path="/", items=(item("/run/determined/shadow", ItemKind.FILE, 0o600, 0),))
    script = "id -u; id -g; cd /run/determined; stat -c '%a %u:%g' . id_rsa shadow; cat id_rsa"
    lines = await shown(runtime, make_spec, script, user="1000:1000", archives=(user, root))
    assert lines == ["1000", "1000", "700 1000:1000", "600 1000:1000", "600 0:0"]


async def test_shared_memory_and_tmpfs_have_their_sizes(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    tmpfs = (Tmpfs(target="/scratch", size_bytes=8 << 20, mode=0o700), Tmpfs(target="/free"))
    script = (
        "grep -E ' /(dev/shm|scratch|free) ' /proc/mounts | cut -d' ' -f2-4 | sort;"
        " stat -c %a /scratch /free; touch /scratch/x /free/x"
    )
    lines = await shown(runtime, make_spec, script, shm_size_bytes=96 << 20, tmpfs=tmpfs)
    shm, free, scratch = lines[0], lines[1], lines[2]
    assert shm.startswith("/dev/shm tmpfs ")
    assert "size=98304k" in shm
    assert "size=" not in free
    assert "size=8192k" in scratch
    assert lines[3:] == ["700", "1777"]


async def test_capabilities_are_added_and_dropped(runtime: Runtime, make_spec: MakeSpec) -> None:
    script = "grep CapEff /proc/self/status"
    (line,) = await shown(
        runtime,
        make_spec,
        script,
        add_capabilities=("SYS_PTRACE",),
        drop_capabilities=("CHOWN", "CAP_MKNOD"),
    )
    bits = int(line.split()[1], 16)
    assert [bool(bits >> number & 1) for number in (19, 0, 27, 5)] == [True, False, False, True]


async def test_a_device_is_there_under_its_name(runtime: Runtime, make_spec: MakeSpec) -> None:
    device = Device(host="/dev/null", container="/dev/lab", mode="rw")
    assert await shown(
        runtime, make_spec, "echo x > /dev/lab; stat -c '%t:%T' /dev/lab", devices=(device,)
    ) == ["1:3"]


async def test_a_device_that_is_missing_is_named(runtime: Runtime, make_spec: MakeSpec) -> None:
    spec = make_spec(devices=(Device(host="/dev/no-such", container="/dev/lab"),))
    with pytest.raises(ContainerRuntimeError, match="/dev/no-such"):
        await start(runtime, spec)


async def test_mounts_made_later_are_seen_where_they_are_to_propagate(
    runtime: Runtime, make_spec: MakeSpec, tmp_path: Path
) -> None:
    for name in ("slave", "private"):
        (tmp_path / name).mkdir()
        mount("--bind", str(tmp_path / name), str(tmp_path / name))
        mount("--make-shared", str(tmp_path / name))
        (tmp_path / name / "in").mkdir()
    try:
        spec = make_spec(
            argv=("sh", "-c", "echo on; while [ ! -e /slave/in/x ]; do sleep 0.05; done; ls /*/in"),
            mounts=(
                Mount(source=str(tmp_path / "slave"), target="/slave", propagation="rslave"),
                Mount(source=str(tmp_path / "private"), target="/private"),
            ),
        )
        handle = await start(runtime, spec)
        await read_until(runtime, handle, b"on\n")
        for name in ("private", "slave"):
            mount("-t", "tmpfs", "none", str(tmp_path / name / "in"))
            (tmp_path / name / "in/x").touch()
        seen = await read_until(runtime, handle, b"/slave/in:\nx\n")
        assert seen == b"on\n/private/in:\n\n/slave/in:\nx\n"
        await runtime.remove(handle)
    finally:
        for name in ("private", "slave"):
            unmount(tmp_path / name)


async def test_ports_on_the_hosts_network_are_no_reason_to_warn(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    events: list[Event] = []
    spec = make_spec(ports=(1734,), publish_all_ports=True, network_mode="host")
    await runtime.create(spec, events.append)
    assert events == []


async def test_zombies_are_reaped_and_a_plain_program_hears_signals(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    handle = await start(runtime, make_spec(argv=("sh", "-c", "(sleep 0.01 &); exec sleep 1000")))
    await runtime.signal(handle, 15)  # which the first process of a container does not hear
    async with asyncio.timeout(60):
        assert (await runtime.wait(handle)).code == 143


async def test_an_init_of_the_containers_own_is_the_first_process(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    script = ArchiveItem(
        path="/init", kind=ItemKind.FILE, mode=0o755, content=b"#!/bin/sh\necho $$ $1\n"
    )
    for number, changes in enumerate(
        ({"entrypoint": ("/init",), "argv": ("x",)}, {"argv": ("/init", "x")})
    ):
        spec = make_spec(
            id=ContainerId(f"c-{number}"), archives=(Archive(path="/", items=(script,)),), **changes
        )
        assert (await run(runtime, spec)).stdout == b"1 x\n"


async def test_a_program_that_cannot_start_is_a_refusal_by_name(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    programs = {"no-such": 127, "/no/such": 127, "./no-such": 127, "/etc/passwd": 126, "/etc": 127}
    for number, (program, code) in enumerate(programs.items()):
        id_ = ContainerId(f"c-{number}")
        with pytest.raises(LaunchRefused, match=program) as caught:
            await start(runtime, make_spec(id=id_, argv=(program,), work_dir="/tmp"))
        assert caught.value.exit_code == code


async def test_programs_are_found_as_the_kernel_finds_them(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    script = ArchiveItem(
        path="/opt/x/run", kind=ItemKind.FILE, mode=0o755, content=b"#!/bin/sh\necho found\n"
    )
    link = ArchiveItem(path="/opt/x/link", kind=ItemKind.SYMLINK, content=b"run")
    archives = (Archive(path="/", items=(script, link)),)
    kinds: tuple[dict[str, Any], ...] = (
        {"argv": ("./link",), "work_dir": "/opt/x"},
        {"argv": ("link",), "environment": {"PATH": "/no:/opt/x:/bin"}},
        {"argv": ("/opt/x/link",), "entrypoint": ()},
        {"argv": (), "entrypoint": ("/opt/x/run",)},
    )
    for number, changes in enumerate(kinds):
        spec = make_spec(id=ContainerId(f"c-{number}"), archives=archives, **changes)
        outcome = await run(runtime, spec)
        assert outcome.stdout == b"found\n", changes


async def test_a_missing_interpreter_is_told_as_the_cause(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    item = ArchiveItem(
        path="/run/script", kind=ItemKind.FILE, mode=0o755, content=b"#!/no/such/python\n"
    )
    spec = make_spec(argv=("/run/script",), archives=(Archive(path="/", items=(item,)),))
    ended = (await run(runtime, spec)).exit
    assert ended.code in {1, 127}
    assert ended.reason == "the program could not be started: No such file or directory"


async def test_want_of_memory_is_told_from_other_kills(
    case_name: str, runtime: Runtime, make_spec: MakeSpec, docker: Docker
) -> None:
    if case_name != "docker":
        pytest.skip("this machine's Podman cannot change the memory of what runs")
    script = "echo on; while [ ! -e /go ]; do sleep 0.05; done; tail /dev/zero"
    handle = await start(runtime, make_spec(argv=("sh", "-c", script)))
    await read_until(runtime, handle, b"on\n")
    limit = ["--memory", "32m", "--memory-swap", "32m"]
    await asyncio.to_thread(docker.run, ["update", *limit, handle.native_id])
    await asyncio.to_thread(docker.run, ["exec", handle.native_id, "touch", "/go"])
    async with asyncio.timeout(60):
        ended = await runtime.wait(handle)
    assert (ended.code, ended.out_of_memory) == (137, True)


def mount(*words: str) -> None:
    """Run mount."""
    subprocess.run(["mount", *words], check=True)


def unmount(path: Path) -> None:
    """Take away what is mounted at and below *path*."""
    subprocess.run(["umount", "-R", str(path)], check=False)
