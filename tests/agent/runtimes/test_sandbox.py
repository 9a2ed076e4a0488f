"""What the sandbox shows of the host, what it hides, and whom it runs as."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from shipway_agent.errors import LaunchRefused, RuntimeUnavailable, SpecUnsupported
from shipway_agent.runtimes.spec import (
    Archive,
    ArchiveItem,
    ContainerId,
    ContainerSpec,
    Device,
    Event,
    EventKind,
    ItemKind,
    Mount,
    Runtime,
)
from tests.agent.runtimes.conftest import SANDBOXES, Case
from tests.agent.runtimes.steps import ignore, run, start
from tests.lab.require import require

MakeSpec = Callable[..., ContainerSpec]

RUN_DIR = Archive(
    path="/run/determined",
    items=(
        ArchiveItem(path="workdir", kind=ItemKind.DIRECTORY, mode=0o755),
        ArchiveItem(path="entry.sh", kind=ItemKind.FILE, mode=0o755, content=b"#!/bin/sh\npwd\n"),
    ),
)

sandboxed = pytest.mark.parametrize("case_name", SANDBOXES, indirect=True)
behind_walls = pytest.mark.parametrize("case_name", ["bubblewrap"], indirect=True)
as_plain_process = pytest.mark.parametrize("case_name", ["process"], indirect=True)


@behind_walls
async def test_the_host_can_be_read_and_not_changed(runtime: Runtime, make_spec: MakeSpec) -> None:
    script = (
        "cat /etc/os-release > /tmp/copy && test -s /tmp/copy && echo read; touch /etc/x /usr/x"
    )
    outcome = await run(runtime, make_spec(argv=("sh", "-c", script)))
    assert outcome.stdout == b"read\n"
    assert outcome.stderr.count(b"Read-only file system") == 2


@behind_walls
async def test_the_tasks_tmp_and_run_are_its_own(
    runtime: Runtime, make_spec: MakeSpec, tmp_path: Path
) -> None:
    assert str(tmp_path).startswith("/tmp/")
    own = f"mine-of-{os.getpid()}"
    touches = f"touch /tmp/{own} /var/tmp/{own} /run/{own}"
    script = f"ls -A /tmp /var/tmp /run; {touches} && echo ok; ls {tmp_path}"
    outcome = await run(runtime, make_spec(argv=("sh", "-c", script)))
    assert outcome.stdout.endswith(b"ok\n")
    assert b"No such file" in outcome.stderr
    for folder in ("/tmp", "/var/tmp", "/run"):
        assert own not in os.listdir(folder)


@behind_walls
async def test_other_tasks_and_the_agent_are_out_of_sight(
    case: Case, runtime: Runtime, make_spec: MakeSpec
) -> None:
    secret = Archive(
        path="/run/determined",
        items=(ArchiveItem(path="secret", kind=ItemKind.FILE, content=b"s3cret"),),
    )
    await runtime.create(make_spec(id=ContainerId("other"), archives=(secret,)), ignore)
    script = (
        f"ls -A {case.options.state_dir}; cat /proc/1/comm; ls /proc | grep -c '^[0-9]';"
        f" ls /proc/{os.getpid()}"
    )
    outcome = await run(runtime, make_spec(argv=("sh", "-c", script)))
    first, count = outcome.stdout.decode().split()
    assert first == "bwrap"
    assert int(count) <= 5
    assert outcome.stderr.count(b"No such file") == 2


@behind_walls
async def test_hidden_folders_are_empty_and_exposed_ones_are_there(
    case: Case, make_spec: MakeSpec, tmp_path: Path
) -> None:
    shown = tmp_path / "shown"
    shown.mkdir()
    (shown / "file").write_text("shown\n")
    runtime = await case.open(sandbox_expose=(shown,), sandbox_hide=(Path("/etc/ssl"),))
    script = f"cat {shown}/file; touch {shown}/x; ls -A /etc/ssl; test -f /etc/passwd && echo kept"
    outcome = await run(runtime, make_spec(argv=("sh", "-c", script)))
    assert outcome.stdout == b"shown\nkept\n"
    assert b"Read-only" in outcome.stderr


@behind_walls
@pytest.mark.parametrize("private", ["/tmp", "/var/tmp"])
async def test_what_is_exposed_is_there_where_the_sandbox_has_its_own_files(
    case: Case, make_spec: MakeSpec, private: str
) -> None:
    with tempfile.TemporaryDirectory(dir=private) as shown:
        (Path(shown) / "file").write_text("shown\n")
        runtime = await case.open(sandbox_expose=(Path(shown),))
        script = f"cat {shown}/file && touch {shown}-mine && echo written"
        outcome = await run(runtime, make_spec(argv=("sh", "-c", script)))
    assert outcome.stdout == b"shown\nwritten\n"
    assert not await asyncio.to_thread(os.path.exists, f"{shown}-mine")


@behind_walls
async def test_the_agents_own_python_can_be_used(runtime: Runtime, make_spec: MakeSpec) -> None:
    outcome = await run(runtime, make_spec(argv=(sys.executable, "-c", "print(6 * 7)")))
    assert outcome.stdout == b"42\n"


@behind_walls
async def test_a_link_in_a_shared_folder_is_made(
    runtime: Runtime, make_spec: MakeSpec, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    (tree / "run/determined").mkdir(parents=True)
    (tree / "run/determined/file").write_text("there\n")
    (tree / "opt").mkdir()
    (tree / "opt/link").symlink_to("/run/determined/file")
    outcome = await run(runtime, make_spec(argv=("cat", "/opt/link"), tree=tree))
    assert outcome.stdout == b"there\n"


@behind_walls
@pytest.mark.skipif(
    Path(sys.prefix).is_relative_to("/tmp"), reason="/tmp inside shows the agent's own Python"
)
async def test_a_task_that_replaces_tmp_can(
    runtime: Runtime, make_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_spec(
        argv=("sh", "-c", "rm -rf /tmp && ln -s /run /tmp && mkdir /determined && readlink /tmp"),
        environment={"DET_CONTAINER_LOCAL_TMP": "1"},
        work_dir="/run/determined/workdir",
    )
    assert (await run(runtime, spec)).stdout == b"/run\n"


@behind_walls
async def test_files_mounted_in_tmp_are_kept_from_a_task_that_replaces_it(
    runtime: Runtime, make_spec: MakeSpec, tmp_path: Path
) -> None:
    (tmp_path / "precious").write_text("data")
    spec = make_spec(
        argv=("sh", "-c", 'test "$DET_CONTAINER_LOCAL_TMP" = 1 && rm -rf /tmp; ls /tmp/mine'),
        environment={"DET_CONTAINER_LOCAL_TMP": "1"},
        mounts=(Mount(source=str(tmp_path), target="/tmp/mine"),),
    )
    events: list[Event] = []
    handle = await runtime.create(spec, events.append)
    await runtime.start(handle)
    await runtime.wait(handle)
    assert [event.kind for event in events] == [EventKind.WARNING]
    assert (tmp_path / "precious").read_text() == "data"


@sandboxed
async def test_a_jobs_task_has_the_home_of_its_user(
    case: Case, make_spec: MakeSpec, tmp_path: Path
) -> None:
    script = 'touch "$HOME/mine" && echo "$HOME"; ls -A "$HOME/state"'
    job = await case.open(tethered=True)
    outcome = await run(job, make_spec(argv=("sh", "-c", script)))
    assert outcome.stdout.decode().splitlines()[0] == str(tmp_path)
    assert (tmp_path / "mine").exists()
    if case.has_walls:
        assert outcome.stdout.decode().splitlines()[1:] == []  # what agents keep is not for tasks


@behind_walls
async def test_no_network_is_no_network(runtime: Runtime, make_spec: MakeSpec) -> None:
    spec = make_spec(argv=("sh", "-c", "ls /sys/class/net; cat /proc/net/dev"), network_mode="none")
    outcome = await run(runtime, spec)
    assert b"eth" not in outcome.stdout.split(b"Inter-")[1]


@behind_walls
async def test_capabilities_are_those_of_an_engine(runtime: Runtime, make_spec: MakeSpec) -> None:
    require("capabilities", [] if os.geteuid() == 0 else ["the rights of root"])
    argv = ("grep", "CapEff", "/proc/self/status")
    usual = await run(runtime, make_spec(argv=argv))
    assert usual.stdout == b"CapEff:\t00000000a80425fb\n"  # what Docker gives
    fewer = make_spec(
        id=ContainerId("c-2"), argv=argv, drop_capabilities=("all",), add_capabilities=("kill",)
    )
    assert (await run(runtime, fewer)).stdout == b"CapEff:\t0000000000000020\n"


@sandboxed
async def test_a_device_is_there(runtime: Runtime, make_spec: MakeSpec) -> None:
    spec = make_spec(
        argv=("stat", "-c", "%F %t:%T", "/dev/full"),
        devices=(Device(host="/dev/full", container="/dev/full"),),
    )
    assert (await run(runtime, spec)).stdout == b"character special file 1:7\n"


@as_plain_process
async def test_a_plain_process_finds_its_files_in_its_own_folder(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    spec = make_spec(
        argv=("/run/determined/entry.sh", "/run/determined-not/this", "in /run/determined"),
        archives=(RUN_DIR,),
        work_dir="/run/determined/workdir",
        environment={"DET_RUN_DIR": "/run/determined", "OTHER": "/run/determined"},
    )
    outcome = await run(runtime, spec)
    work_dir = outcome.stdout.decode().strip()
    assert work_dir.endswith("/sandbox/c-1/root/run/determined/workdir")
    shown = await run(
        runtime, replace(spec, id=ContainerId("c-2"), argv=("cat", "/proc/self/environ"))
    )
    variables = dict(part.split("=", 1) for part in shown.stdout.decode().split("\0") if part)
    root = work_dir.removesuffix("/workdir").replace("c-1", "c-2")
    assert variables["DET_RUN_DIR"] == root
    assert variables["HOME"] == f"{root}/workdir"
    assert variables["OTHER"] == "/run/determined"


@as_plain_process
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mounts": (Mount(source="/etc", target="/mnt"),)}, "install bubblewrap"),
        ({"devices": (Device(host="/dev/null", container="/dev/x"),)}, "/dev/null as /dev/x"),
        ({"network_mode": "none"}, "network mode none"),
        ({"work_dir": "/no/such"}, "/no/such"),
        ({"user": "alice"}, "'alice'"),
    ],
    ids=["mount", "device", "network", "work-dir", "user"],
)
async def test_what_a_plain_process_cannot_have_is_refused_by_name(
    runtime: Runtime, make_spec: MakeSpec, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(SpecUnsupported, match=words):
        await runtime.create(make_spec(**changes), ignore)
    assert await runtime.list_owned({}) == []


@sandboxed
async def test_root_runs_a_task_as_its_user(
    case: Case, make_spec: MakeSpec, open_folder: Path
) -> None:
    runtime = await case.open(state_dir=open_folder / "state")
    item = ArchiveItem(path="workdir", kind=ItemKind.DIRECTORY, mode=0o700, uid=1234, gid=5678)
    spec = make_spec(
        argv=("sh", "-c", "id -u; id -g; id -G; grep CapEff /proc/self/status; touch mine"),
        user="1234:5678",
        archives=(Archive(path="/run/determined", items=(item,)),),
        work_dir="/run/determined/workdir",
    )
    outcome = await run(runtime, spec)
    assert outcome.stderr == b""
    assert outcome.stdout.decode().split() == ["1234", "5678", "5678", "CapEff:", "0" * 16]
    missing = replace(spec, id=ContainerId("c-2"), argv=("no-such-program",))
    with pytest.raises(LaunchRefused, match="no-such-program"):
        await start(runtime, missing)
    for owned in await runtime.list_owned({}):
        await runtime.remove(owned.handle)


@as_plain_process
async def test_a_folder_that_the_tasks_user_cannot_reach_is_named(
    case: Case, make_spec: MakeSpec, open_folder: Path
) -> None:
    (open_folder / "closed").mkdir(mode=0o700)
    runtime = await case.open(state_dir=open_folder / "closed" / "state")
    with pytest.raises(SpecUnsupported, match=f"{open_folder}/closed is closed to others"):
        await runtime.create(make_spec(user="1234:5678"), ignore)


# What an agent without root does.
WITHOUT_ROOT = """
import asyncio, json, sys
from pathlib import Path
from shipway_agent.runtimes.options import RuntimeOptions
from shipway_agent.runtimes.registry import find_runtime
from shipway_agent.runtimes.spec import ContainerId, ContainerSpec

async def main(state_dir, mode, path):
    options = RuntimeOptions(state_dir=Path(state_dir), sandbox_mode=mode, environ={"PATH": path})
    runtime = await find_runtime("sandbox", options)
    spec = ContainerSpec(
        id=ContainerId("c-1"), image=None, argv=("sh", "-c", "id -u; touch here && echo wrote"),
        user="0:0", work_dir="/run/determined/workdir",
    )
    handle = await runtime.create(spec, lambda event: None)
    await runtime.start(handle)
    async for chunk in runtime.output(handle):
        sys.stdout.buffer.write(chunk.data)
    await runtime.remove(handle)

asyncio.run(main(*json.loads(sys.argv[1])))
"""


@pytest.mark.parametrize(("mode", "uid"), [("process", "1000"), ("bubblewrap", "0")])
def test_an_agent_without_root_runs_a_task_for_root_as_itself(
    tmp_path: Path, mode: str, uid: str
) -> None:
    arguments = [str(tmp_path / "state"), mode, os.environ["PATH"]]
    # A user namespace in which we are not root, and have none of its rights; unlike another user,
    # it can read our interpreter wherever that lies.
    without_root = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    done = subprocess.run(
        [*without_root, sys.executable, "-c", WITHOUT_ROOT, json.dumps(arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.split() == [uid, "wrote"]


@behind_walls
async def test_bubblewrap_that_is_not_there_is_named(case: Case, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    broken = tmp_path / "bin" / "bwrap"
    broken.write_text("#!/bin/sh\necho 'no permissions here' >&2; exit 1\n")
    broken.chmod(0o755)
    environ = {"PATH": str(tmp_path / "bin")}
    with pytest.raises(RuntimeUnavailable, match="no permissions here"):
        await case.open(environ=environ)
    fallback = await case.open(environ=environ, sandbox_mode="auto")
    assert "plain processes" in fallback.description
    assert "no permissions here" in fallback.description


@behind_walls
async def test_a_mount_of_the_host_that_goes_meanwhile_stops_no_task(
    case: Case, tmp_path: Path, make_spec: MakeSpec
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "fails").mkdir()
    racing = tmp_path / "bin" / "bwrap"
    racing.write_text(
        f"#!/bin/sh\n{shutil.which('rmdir')} {tmp_path}/fails/a 2>/dev/null"
        f" || {shutil.which('rmdir')} {tmp_path}/fails/b 2>/dev/null || "
        f'exec {shutil.which("bwrap")} "$@"\n'
        "echo \"bwrap: Can't bind mount /oldroot/ on /newroot/: Unable to apply mount flags:"
        ' remount \\"/newroot/srv/x/merged\\": No such file or directory" >&2; exit 1\n'
    )
    racing.chmod(0o755)
    path = f"{racing.parent}:{os.environ['PATH']}"

    def fail_twice() -> None:
        for name in ("a", "b"):
            (tmp_path / "fails" / name).mkdir()

    fail_twice()
    runtime = await case.open(environ={"PATH": path})
    assert not os.listdir(tmp_path / "fails")
    fail_twice()
    outcome = await run(runtime, make_spec(argv=("sh", "-c", "echo out; echo err >&2; exit 3")))
    assert not os.listdir(tmp_path / "fails")
    assert (outcome.exit.code, outcome.stdout, outcome.stderr) == (3, b"out\n", b"err\n")


@behind_walls
async def test_shared_memory_has_the_size_asked_for(runtime: Runtime, make_spec: MakeSpec) -> None:
    spec = make_spec(
        argv=("sh", "-c", "df -B1 --output=size /dev/shm | tail -n 1; stat -c %a /dev/shm"),
        shm_size_bytes=64 << 20,
    )
    assert (await run(runtime, spec)).stdout.split() == [b"67108864", b"1777"]


@as_plain_process
async def test_less_shared_memory_than_asked_for_is_told(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    events: list[Event] = []
    await runtime.create(make_spec(shm_size_bytes=1 << 60), events.append)
    assert any("shared memory: /dev/shm of this host has" in event.text for event in events)
