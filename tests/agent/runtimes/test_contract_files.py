"""Files: work folder, archives and mounts, the same in every runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

from shipway_agent.errors import ContainerRuntimeError, SpecUnsupported
from shipway_agent.runtimes.spec import Archive, ArchiveItem, ItemKind, Mount, Runtime, Tmpfs
from tests.agent.runtimes.conftest import WITH_IMAGES, Case, MakeSpec, with_socket_too, with_walls
from tests.agent.runtimes.steps import ignore, run, start


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
    runtime: Runtime, make_spec: MakeSpec, tmp_path: Path
) -> None:
    odd = tmp_path / "a 'b,c:d"
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
async def test_a_tmpfs_is_there_in_its_size_or_refused_by_name(
    case: Case, runtime: Runtime, make_spec: MakeSpec
) -> None:
    spec = make_spec(
        argv=(
            "sh",
            "-c",
            "grep ' /scratch ' /proc/mounts; stat -c %a /scratch; echo x > /scratch/x",
        ),
        tmpfs=(Tmpfs(target="/scratch", size_bytes=8 << 20, mode=0o700),),
    )
    if case.name in {"process", "apptainer"}:
        with pytest.raises(SpecUnsupported, match="tmpfs at /scratch"):
            await runtime.create(spec, ignore)
        return
    outcome = await run(runtime, spec)
    mounted, mode = outcome.stdout.decode().splitlines()
    assert "tmpfs" in mounted
    assert "size=8192k" in mounted
    assert (mode, outcome.stderr) == ("700", b"")
