"""What is Enroot's alone: where its containers come from, and how they are set up."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from shipway_agent.errors import (
    ImageNotFound,
    LaunchRefused,
    PullFailed,
    RuntimeUnavailable,
    SpecUnsupported,
)
from shipway_agent.runtimes.commands import run_command
from shipway_agent.runtimes.enrootforms import (
    configuration,
    container_name,
    credentials_file,
    gpu_hook_variables,
    import_uri,
)
from shipway_agent.runtimes.imagenames import parse_image_name
from shipway_agent.runtimes.options import RuntimeOptions
from shipway_agent.runtimes.registry import find_runtime
from shipway_agent.runtimes.spec import (
    Archive,
    ArchiveItem,
    Event,
    EventKind,
    ItemKind,
    Mount,
    RegistryAuth,
    Runtime,
)
from tests.agent.runtimes.conftest import Case, MakeSpec, spec_maker
from tests.agent.runtimes.imageregistry import ImageRegistry, serving
from tests.agent.runtimes.steps import ignore, read_until, run, start

LOGIN = ("someone", "pass:w0rd'x")

on_enroot = pytest.mark.parametrize("case_name", ["enroot"], indirect=True)


@pytest.mark.parametrize(
    ("image", "name", "uri"),
    [
        ("busybox", "busybox", "docker://registry-1.docker.io#library/busybox:latest"),
        (
            "docker.io/badhost/missing.image",
            "docker.io+badhost+missing.image",
            "docker://registry-1.docker.io#badhost/missing.image:latest",
        ),
        (
            "nvcr.io/nvidia/pytorch:24.01-py3",
            "nvcr.io+nvidia+pytorch+24.01-py3",
            "docker://nvcr.io#nvidia/pytorch:24.01-py3",
        ),
        ("r.example:5000/a/b:1", "r.example+5000+a+b+1", "docker://r.example:5000#a/b:1"),
    ],
)
def test_names_of_images(image: str, name: str, uri: str) -> None:
    assert container_name(image) == name
    assert import_uri(parse_image_name(image)) == uri


def test_credentials_are_for_the_registry_and_whoever_gives_out_its_tokens() -> None:
    auth = RegistryAuth(username="$oauthtoken", password="s3cret")
    assert credentials_file(parse_image_name("nvcr.io:443/a/b"), auth) == (
        b"machine nvcr.io login $oauthtoken password s3cret\n"
        b"default login $oauthtoken password s3cret\n"
    )


@pytest.mark.parametrize("password", ["two words", "$(id)", "tab\there", ""])
def test_credentials_that_would_become_others_are_refused_without_being_told(password: str) -> None:
    with pytest.raises(PullFailed) as caught:
        credentials_file(parse_image_name("a/b"), RegistryAuth(username="u", password=password))
    assert not password or password not in str(caught.value)


def test_hooks_hear_of_no_gpu_unless_there_is_one() -> None:
    make_spec = spec_maker("x")
    assert gpu_hook_variables(make_spec()) == {"NVIDIA_VISIBLE_DEVICES": "void"}
    assert gpu_hook_variables(make_spec(all_gpus="nvidia")) == {
        "NVIDIA_VISIBLE_DEVICES": "all",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
    }
    chosen = make_spec(environment={"NVIDIA_VISIBLE_DEVICES": "MIG-1", "OTHER": "x"})
    text = configuration(chosen, Path("/fs tab"))
    assert b"NVIDIA_VISIBLE_DEVICES=MIG-1" in text
    assert b"OTHER" not in text
    assert b"cat '/fs tab'" in text


async def test_one_that_is_too_old_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "enroot"
    program.write_text("#!/bin/sh\necho 3.3.1\n")
    program.chmod(0o755)
    options = RuntimeOptions(
        state_dir=tmp_path / "state", environ={"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    )
    with pytest.raises(RuntimeUnavailable, match=r"3\.3\.1; 3\.4 or newer is needed"):
        await find_runtime("enroot", options)


@on_enroot
async def test_an_image_is_fetched_with_credentials_and_runs_as_it_was_made(
    case: Case, make_spec: MakeSpec, tmp_path: Path
) -> None:
    async with serving(ImageRegistry(login=LOGIN)) as registry:
        runtime = await case.open(environ={**case.options.environ, "ENROOT_ALLOW_HTTP": "yes"})
        auth = RegistryAuth(username=LOGIN[0], password=LOGIN[1], server_address=registry.address)
        events: list[Event] = []
        spec = make_spec(image=registry.image, registry_auth=auth, argv=("sh", "-c", "echo $PATH"))
        await runtime.pull(spec, events.append)
        kinds = [event.kind for event in events]
        assert kinds[0] is EventKind.PULL_BEGAN
        assert EventKind.PULL_PROGRESS in kinds
        assert not any(LOGIN[1] in event.text for event in events)
        assert (await run(runtime, spec)).stdout == b"/bin\n"  # the image's own variable
        asked = len(registry.asked)
        await runtime.pull(spec, events.append)
        assert events[-1].kind is EventKind.PULL_SKIPPED
        assert len(registry.asked) == asked
        await runtime.pull(replace(spec, force_pull=True), ignore)
        assert len(registry.asked) > asked
        assert files_named(".credentials*", tmp_path) == []
        assert not (tmp_path / ".local").exists()  # nothing in the home of a service


@on_enroot
async def test_what_the_registry_hides_is_told_by_its_words(
    case: Case, make_spec: MakeSpec
) -> None:
    async with serving(ImageRegistry(login=LOGIN)) as registry:
        runtime = await case.open(environ={**case.options.environ, "ENROOT_ALLOW_HTTP": "yes"})
        with pytest.raises(
            (ImageNotFound, PullFailed),
            match=r"Authenticating with user: <anonymous>|401 Unauthorized",
        ):
            await runtime.pull(make_spec(image=registry.image), ignore)


@on_enroot
async def test_a_job_uses_the_container_that_its_user_made(
    case: Case, make_spec: MakeSpec, tmp_path: Path
) -> None:
    data = tmp_path / ".local/share/enroot"
    runtime = await case.open(tethered=True)
    spec = make_spec(image="lab/img:1", argv=("sh", "-c", "touch /written; pwd"))
    with pytest.raises(ImageNotFound, match=re.escape(f"{data}/lab+img+1")):
        await runtime.pull(spec, ignore)
    program = shutil.which("enroot", path=case.options.environ["PATH"])
    assert program is not None
    argv = [program, "create", "--name", "lab+img+1", "--", case.image or ""]
    environ = {**case.options.environ, "ENROOT_RUNTIME_PATH": str(tmp_path / "run")}
    made = await run_command(argv, environ, limit_s=30)
    assert made.status == 0, made.stderr
    await runtime.pull(spec, ignore)
    assert (await run(runtime, spec)).stdout == b"/\n"
    assert (data / "lab+img+1/written").exists()
    for owned in await runtime.list_owned({}):
        await runtime.remove(owned.handle)
    assert (data / "lab+img+1/written").exists()


@on_enroot
async def test_the_masters_way_to_ask_for_a_tmpfs(runtime: Runtime, make_spec: MakeSpec) -> None:
    spec = make_spec(
        argv=("sh", "-c", "grep -E ' /(var/tmp|dev/shm) tmpfs' /proc/self/mounts | tail -n 2"),
        mounts=(Mount(source="tmpfs", target="/var/tmp:x-create=dir"),),
        shm_size_bytes=64 << 20,
    )
    text = (await run(runtime, spec)).stdout.decode()
    assert " /var/tmp tmpfs rw,nosuid,nodev" in text
    assert "size=65536k" in text


@on_enroot
async def test_a_container_without_a_shell_is_refused_in_enroots_words(
    runtime: Runtime, make_spec: MakeSpec, case: Case
) -> None:
    handle = await runtime.create(make_spec(), ignore)
    (case.options.state_dir / "enroot/c-1/enroot/data/task/bin/sh").unlink()
    with pytest.raises(LaunchRefused, match="enroot-switchroot: failed to execute: /bin/sh"):
        await runtime.start(handle)


@on_enroot
async def test_a_task_that_speaks_like_enroot_has_run(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    outcome = await run(runtime, make_spec(argv=("sh", "-c", "echo '[ERROR] mine' >&2; exit 1")))
    assert (outcome.exit.code, outcome.exit.reason) == (1, "")
    assert outcome.stderr == b"[ERROR] mine\n"


@on_enroot
async def test_the_task_inherits_nothing_and_secrets_are_on_no_command_line(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    script = "ls /proc/self/fd; echo on; sleep 60"
    handle = await start(
        runtime, make_spec(argv=("sh", "-c", script), environment={"TOKEN": "s3cret-value"})
    )
    assert await read_until(runtime, handle, b"on\n") == b"0\n1\n2\n3\non\n"  # 3 is what ls reads
    assert command_lines_with(b"s3cret-value") == []


@on_enroot
async def test_a_task_is_its_user(case: Case, make_spec: MakeSpec, open_folder: Path) -> None:
    runtime = await case.open(state_dir=open_folder / "state")
    folder = ArchiveItem(path="workdir", kind=ItemKind.DIRECTORY, mode=0o700, uid=1234, gid=5678)
    spec = make_spec(
        argv=("sh", "-c", "id -u; id -g; touch mine /here && stat -c %u:%g mine /here"),
        user="1234:5678",
        archives=(Archive(path="/run/determined", items=(folder,)),),
        work_dir="/run/determined/workdir",
    )
    outcome = await run(runtime, spec)
    assert outcome.stdout.split() == [b"1234", b"5678", b"1234:5678", b"1234:5678"], outcome
    for owned in await runtime.list_owned({}):
        await runtime.remove(owned.handle)


@on_enroot
async def test_what_it_cannot_do_is_refused_by_name(runtime: Runtime, make_spec: MakeSpec) -> None:
    if "3." in runtime.description:
        with pytest.raises(SpecUnsupported, match="network mode none"):
            await runtime.create(make_spec(network_mode="none"), ignore)
    long = Mount(source="/etc", target="/" + "/".join(["x" * 200] * 21))
    with pytest.raises(SpecUnsupported, match="names that long"):
        await runtime.create(make_spec(mounts=(long,)), ignore)


def files_named(pattern: str, folder: Path) -> list[Path]:
    """Return what is left of some files."""
    return sorted(folder.rglob(pattern))


def command_lines_with(text: bytes) -> list[Path]:
    """Return which processes show *text* to everybody."""
    found: list[Path] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if text in path.read_bytes():
                found.append(path)
    return found
