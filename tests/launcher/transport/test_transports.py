"""Running programs and moving files, by each way there is: one suite for all."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import pwd
import shutil
import tempfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

import shipway_launcher
from shipway_launcher.config import load_settings
from shipway_launcher.errors import CommandTimedOut, TransportError, WrongRequest
from shipway_launcher.transport.base import Command, Transport
from shipway_launcher.transport.local import LocalTransport
from shipway_launcher.transport.ssh import SshTransport
from shipway_launcher.transport.sudo import SudoTransport
from shipway_launcher.transport.tree import Entry, Kind
from shipway_launcher.users import Users
from tests.lab.folders import new_folder, remove_folder
from tests.lab.processes import is_alive
from tests.lab.require import require
from tests.launcher.transport.conftest import link_to

HELPER = "shipway_launcher.transport.helper"
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", "LANG": "C.UTF-8"}


def other_user() -> str:
    """Return a user without rights, whom sudo lets root act for."""
    return "nobody"


@pytest.fixture(params=["local", "sudo", "ssh", "sudo over ssh"])
async def transport(request: pytest.FixtureRequest, open_folder: Path) -> AsyncGenerator[Transport]:
    async with contextlib.AsyncExitStack() as stack:
        own: Transport = LocalTransport(getpass.getuser(), ENVIRONMENT)
        if "ssh" in request.param:
            link = await stack.enter_async_context(link_to(request.getfixturevalue("sshd")))
            own = SshTransport(getpass.getuser(), link, lambda _: ENVIRONMENT)
        if "sudo" in request.param:
            if os.geteuid() != 0:
                pytest.skip("acting for another user needs root")
            require("sudo", [] if shutil.which("sudo") else ["sudo"])
            settings = {**ENVIRONMENT, "A": "b=c d'$"}
            own = SudoTransport(other_user(), settings, own, _helper(open_folder))
        yield own


def _helper(folder: Path) -> list[str]:
    """Make the helper reachable for a user who cannot read this checkout or run its Python."""
    require("the helper", [] if Path("/usr/bin/python3").exists() else ["python3"])
    package = folder / "package/shipway_launcher"
    if not package.exists():
        shutil.copytree(Path(shipway_launcher.__file__).parent, package)
        for path in (package.parent, package, *package.rglob("*")):
            path.chmod(0o755)
    return ["env", f"PYTHONPATH={package.parent}", "/usr/bin/python3", "-m", HELPER]


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder that everybody can reach; pytest closes its own ones to others."""
    folder = new_folder("transports")
    yield folder
    remove_folder(folder)


@pytest.fixture
def shared(open_folder: Path) -> Path:
    """A folder in which each user may make one, and which everybody can reach."""
    folder = Path(tempfile.mkdtemp(dir=open_folder))
    folder.chmod(0o1777)
    return folder


def command(*argv: str, timeout_s: float = 60, stdin: bytes = b"") -> Command:
    return Command(argv=argv, timeout_s=timeout_s, stdin=stdin)


async def test_output_and_status_come_back(transport: Transport) -> None:
    done = await transport.run(
        command("sh", "-c", r"cat; printf 'e\377' >&2; exit 7", stdin=b"\0i")
    )
    assert (done.exit_status, done.stdout, done.stderr) == (7, b"\0i", b"e\xff")
    assert done.stderr_text == "e\ufffd"


async def test_programs_run_as_the_user_with_the_given_environment_only(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SECRET", "1")
    assert (await transport.run(command("id", "-un"))).stdout_text.strip() == transport.user
    found = (await transport.run(command("env"))).stdout_text
    assert "MY_SECRET" not in found
    assert "LANG=C.UTF-8" in found
    if isinstance(transport, SudoTransport):
        assert "A=b=c d'$\n" in found


async def test_a_program_that_hangs_is_ended_with_its_children(
    transport: Transport, shared: Path
) -> None:
    note = shared / "pid"
    script = f"sleep 600 & echo $! > {note}; wait"
    for timeout_s in (1, 4, 16):  # a loaded machine may not have come to it in a second
        with pytest.raises(CommandTimedOut, match=f"within {timeout_s} s"):
            await transport.run(command("sh", "-c", script, timeout_s=timeout_s))
        if note.exists() and note.read_text():
            break
    pid = int(note.read_text())
    async with asyncio.timeout(60):
        while is_alive(pid):  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.1)


async def test_a_missing_program_is_an_error(transport: Transport) -> None:
    if isinstance(transport, SudoTransport):
        assert (await transport.run(command("no-such-program"))).exit_status != 0
    else:
        with pytest.raises(TransportError, match="no-such-program"):
            await transport.run(command("no-such-program"))


async def test_too_much_output_is_an_error_and_does_not_fill_the_memory(
    transport: Transport,
) -> None:
    endless = Command(
        argv=("head", "-c", "3000000", "/dev/zero"), timeout_s=60, output_limit_bytes=1 << 20
    )
    with pytest.raises(TransportError, match="3000000 bytes"):
        await transport.run(endless)


async def test_files_belong_to_the_user(transport: Transport, shared: Path) -> None:
    folder = shared / transport.user / "job.1"
    entries = [
        Entry(path="task.json", kind=Kind.FILE, mode=0o600, content=b"secret"),
        Entry(path="volume/run/x", kind=Kind.FILE, mode=0o755, content=bytes(300_000)),
        Entry(path="volume/link", kind=Kind.LINK, content=b"///determined/x"),
    ]
    await transport.install(folder, entries)
    owner = pwd.getpwnam(transport.user).pw_uid
    for path in (folder.parent, folder, *folder.rglob("*")):
        assert path.lstat().st_uid == owner
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "task.json").stat().st_mode & 0o777 == 0o600
    assert await transport.size(folder / "volume/run/x") == 300_000
    assert await transport.size(folder / "nothing") is None
    assert await transport.read(folder / "task.json", offset=2, limit=3) == b"cre"
    assert await transport.read(folder / "task.json", offset=4, limit=100) == b"et"
    found = await transport.status(folder / "task.json")
    assert found is not None
    assert found.size == 6
    assert found.modified_at == (folder / "task.json").stat().st_mtime
    assert await transport.status(folder / "nothing") is None
    await transport.erase(folder / "task.json")
    assert (folder / "task.json").read_bytes() == b""
    await transport.erase(folder / "nothing")
    with pytest.raises(TransportError, match=r"job\.1"):
        await transport.install(folder, [])
    await transport.remove(folder)
    assert not folder.exists()
    await transport.remove(folder)


async def test_names_that_are_no_utf_8_stay_as_they_are(transport: Transport, shared: Path) -> None:
    odd = os.fsdecode(b"caf\xe9 'q\" $(id)\n")
    folder = shared / transport.user / odd
    content = bytes(range(256))
    await transport.install(
        folder,
        [
            Entry(path=odd, kind=Kind.FILE, content=content),
            Entry(path=f"below/{odd}", kind=Kind.LINK, content=os.fsencode(odd)),
        ],
    )
    found = {name for _, names, files in os.walk(os.fsencode(folder)) for name in [*names, *files]}
    assert found == {os.fsencode(odd), b"below"}
    assert os.readlink(os.fsencode(folder / "below" / odd)) == os.fsencode(odd)
    assert await transport.read(folder / odd, offset=0, limit=1000) == content
    done = await transport.run(command("cat", str(folder / odd)))
    assert done.stdout == content
    with pytest.raises(TransportError, match="caf"):
        await transport.read(folder / f"{odd}2", offset=0, limit=1)
    await transport.remove(folder)
    assert os.listdir(os.fsencode(folder.parent)) == []


async def test_a_folder_that_someone_else_has_put_there_is_not_used(
    transport: Transport, shared: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    trap = shared / transport.user
    trap.mkdir(mode=0o777)
    os.chown(trap, 12345, 12345)
    with pytest.raises(TransportError, match="is not a folder of user id"):
        await transport.install(trap / "job.1", [])


async def test_a_link_in_place_of_a_log_is_not_followed(transport: Transport, shared: Path) -> None:
    (shared / "secret").write_text("x")
    (shared / "log").symlink_to(shared / "secret")
    assert await transport.size(shared / "log") is None
    assert await transport.status(shared / "log") is None
    await transport.erase(shared / "log")
    assert (shared / "secret").read_text() == "x"
    with pytest.raises(TransportError):
        await transport.read(shared / "log", offset=0, limit=10)


def users(**changes: object) -> Users:
    return Users(load_settings(flags=changes, environment={"PATH": "/usr/bin:/bin"}))


async def test_the_own_user_needs_no_rule() -> None:
    found = users()
    assert await found.get("") is found.own
    assert await found.get(getpass.getuser()) is found.own


@pytest.mark.parametrize(
    ("settings", "user", "text"),
    [
        ({}, "nobody", "set impersonation: sudo"),
        ({"impersonation": "sudo"}, "no-such-user", "no user no-such-user"),
        ({"impersonation": "sudo"}, "x; rm -rf /", "no user name"),
        ({"impersonation": "sudo"}, "-u", "no user name"),
        ({"impersonation": "sudo"}, "a\nb", "no user name"),
        ({"impersonation": "sudo", "sudo_authorized": "alice, bob"}, "nobody", "sudo_authorized"),
    ],
)
async def test_who_cannot_be_acted_for(settings: dict[str, str], user: str, text: str) -> None:
    with pytest.raises(WrongRequest, match=text):
        await users(**settings).get(user)


@pytest.mark.skipif(os.geteuid() == 0, reason="root is this very user")
async def test_root_is_never_acted_for() -> None:
    with pytest.raises(WrongRequest, match="do not run as root"):
        await users(impersonation="sudo").get("root")


async def test_another_user_by_sudo() -> None:
    found = await users(impersonation="sudo", sudo_authorized="alice,nobody").get("nobody")
    assert isinstance(found, SudoTransport)
    assert found.user == "nobody"
