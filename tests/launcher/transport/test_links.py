"""Links to a real sshd: who is let in, what is in the way, and how dead ones are found."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from pathlib import Path

import pytest

from shipway_launcher.errors import LinkLost, TransportError
from shipway_launcher.transport.base import Command
from shipway_launcher.transport.link import Link
from shipway_launcher.transport.remote import keep_forwarded, keep_user
from shipway_launcher.transport.ssh import SshTransport
from shipway_launcher.transport.tree import Entry, Kind
from tests.lab.folders import new_folder
from tests.lab.processes import free_ports, is_alive, run, wait_until
from tests.lab.require import require
from tests.lab.sshd import Sshd
from tests.launcher.transport.conftest import link_to

BYTES = bytes(range(256)) * 4
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def transport_of(link: Link) -> SshTransport:
    return SshTransport(getpass.getuser(), link, lambda _: ENVIRONMENT)


def command(*argv: str, stdin: bytes = b"", timeout_s: float = 90) -> Command:
    return Command(argv=argv, stdin=stdin, timeout_s=timeout_s)


async def say(link: Link) -> str:
    return (await transport_of(link).run(command("echo", "here"))).stdout_text


async def is_binary_safe(link: Link) -> bool:
    return (await transport_of(link).run(command("cat", stdin=BYTES))).stdout == BYTES


@contextlib.contextmanager
def special_sshd(**options: str) -> Iterator[Sshd]:
    with Sshd(new_folder("sshd"), options) as server:
        yield server


# What the login shell does


@pytest.mark.parametrize("shell", ["sh", "bash", "csh", "tcsh", "fish"])
async def test_any_login_shell_starts_the_far_end(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    forced = f'{shutil.which(shell)} -c "$SSH_ORIGINAL_COMMAND"'
    with special_sshd(ForceCommand=forced) as sshd:
        async with link_to(sshd) as link:
            assert await is_binary_safe(link)


async def test_what_start_up_files_print_is_skipped_before_and_meanwhile(tmp_path: Path) -> None:
    script = tmp_path / "start-up"
    script.write_text(
        "#!/bin/sh\nprintf 'Welcome \\377\\000\\nto this machine'; echo warning >&2\n"
        "(for n in 1 2 3 4 5; do sleep 0.1; echo still here; done) &\n"
        'exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n'
    )
    script.chmod(0o755)
    with special_sshd(ForceCommand=str(script)) as sshd:
        async with link_to(sshd) as link:
            for _ in range(30):
                assert await is_binary_safe(link)
                await asyncio.sleep(0.02)  # the start-up file's background job prints meanwhile


async def test_a_login_node_where_nothing_can_be_run_says_what_it_said() -> None:
    with special_sshd(ForceCommand="echo This account is currently not available.; exit 1") as sshd:
        async with link_to(sshd) as link:
            with pytest.raises(TransportError, match="currently not available"):
                await say(link)


async def test_a_login_node_without_our_python_says_so(sshd: Sshd) -> None:
    link = link_to(sshd)
    link._pythons = ("python2.6", "/no/python")
    async with link:
        with pytest.raises(TransportError, match=r"no Python 3\.11 or newer among python2\.6"):
            await say(link)


# Who is let in


async def test_an_unknown_host_is_not_talked_to(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "known").write_text("")
    async with link_to(sshd, known_hosts_file=str(tmp_path / "known")) as link:
        with pytest.raises(TransportError, match=r"host key of 127\.0\.0\.1 is not the one"):
            await say(link)


async def test_a_host_whose_key_has_changed_is_not_talked_to_until_it_is_known() -> None:
    with special_sshd() as sshd:
        async with link_to(sshd) as link:
            assert await say(link) == "here\n"
        sshd.stop()
        sshd.start(is_host_key_new=True)
        async with link_to(sshd) as link:
            with pytest.raises(TransportError, match="compare its fingerprint"):
                await say(link)
        sshd.known_hosts.unlink()
        sshd.stop()
        sshd.start()
        async with link_to(sshd) as link:
            assert await say(link) == "here\n"


async def test_known_hosts_may_be_hashed_revoked_or_have_other_names(
    sshd: Sshd, tmp_path: Path
) -> None:
    known = tmp_path / "known"
    known.write_text(sshd.known_hosts.read_text())
    run(["ssh-keygen", "-H", "-f", known])
    assert "127.0.0.1" not in known.read_text()
    async with link_to(sshd, known_hosts_file=str(known)) as link:
        assert await say(link) == "here\n"
    key = sshd.known_hosts.read_text().partition(" ")[2]
    known.write_text(f"cluster.example {key}")
    named = entry(sshd, HostKeyAlias="cluster.example", UserKnownHostsFile=known)
    config = write_config(tmp_path / "config", {"cluster": named})
    async with link_to(sshd, **ALL_FROM_CONFIG, config_files=[config]) as link:
        assert await say(link) == "here\n"
    known.write_text(f"@revoked * {key}{sshd.known_hosts.read_text()}")
    async with link_to(sshd, known_hosts_file=str(known)) as link:
        with pytest.raises(TransportError, match="Host key is revoked"):
            await say(link)


async def test_loose_host_key_checking_of_the_ssh_config_does_not_count(
    sshd: Sshd, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text("StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\n")
    changes = {"config_files": [str(config)], "known_hosts_file": None}
    async with link_to(sshd, **changes) as link:
        with pytest.raises(TransportError, match="host key"):
            await say(link)


async def test_a_refused_key_is_named(sshd: Sshd, tmp_path: Path) -> None:
    key = make_key(tmp_path / "other")
    async with link_to(sshd, identity_file=str(key)) as link:
        with pytest.raises(TransportError, match="accepts no key of ours"):
            await say(link)


async def test_a_key_with_a_passphrase_asks_nobody(sshd: Sshd, tmp_path: Path) -> None:
    key = make_key(tmp_path / "locked", passphrase="secret")
    async with link_to(sshd, identity_file=str(key)) as link:
        with pytest.raises(TransportError, match="must be in an agent"):
            await say(link)


async def test_a_key_that_others_can_read_is_not_used(sshd: Sshd, tmp_path: Path) -> None:
    key = make_key(tmp_path / "open")
    key.chmod(0o640)
    async with link_to(sshd, identity_file=str(key)) as link:
        with pytest.raises(
            TransportError, match=r"ssh\.identity_file: others may read .*chmod 600"
        ):
            await say(link)


@pytest.mark.parametrize("setting", ["identity_file", "known_hosts_file"])
async def test_a_file_that_is_not_there_is_named_by_its_setting(
    sshd: Sshd, tmp_path: Path, setting: str
) -> None:
    async with link_to(sshd, **{setting: str(tmp_path / "none")}) as link:
        with pytest.raises(TransportError, match=rf"ssh\.{setting}: .*No such file.*none"):
            await say(link)


async def test_an_sshd_without_sessions_is_named() -> None:
    with special_sshd(MaxSessions="0") as sshd:
        async with link_to(sshd) as link:
            with pytest.raises(TransportError, match="MaxSessions"):
                await say(link)


@pytest.mark.parametrize("is_named", [False, True], ids=["only in the agent", "named as well"])
async def test_keys_of_an_agent_are_used(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_named: bool
) -> None:
    require("ssh-agent", [name for name in ("ssh-agent", "ssh-add") if not shutil.which(name)])
    key = make_key(tmp_path / "locked", passphrase="secret")
    sshd.let_in(key)
    with Background("ssh-agent", "-D", "-a", str(sshd.folder / "agent")):
        agent = sshd.folder / "agent"
        await asyncio.to_thread(wait_until, lambda: listens(agent), "the agent listens", limit_s=60)
        ask = tmp_path / "ask"
        ask.write_text("#!/bin/sh\necho secret\n")
        ask.chmod(0o700)
        asking = {"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
        run(["ssh-add", "-q", key], environment={"SSH_AUTH_SOCK": str(agent), **asking})
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
        monkeypatch.setenv("HOME", str(tmp_path))
        changes: dict[str, object] = {"identity_file": None}
        if is_named:  # as most people have it: the file is locked, the agent has the key
            named = "".join(
                f"IdentityFile {name}\n" for name in (tmp_path / "none", f"{key}.pub", key)
            )
            (tmp_path / "config").write_text(named)
            changes["config_files"] = [str(tmp_path / "config")]
        async with link_to(sshd, **changes) as link:
            assert await say(link) == "here\n"


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as link:
        return link.connect_ex(str(path)) == 0


class Background:
    """A program that runs beside the test and ends with it."""

    def __init__(self, *argv: str) -> None:
        self._argv = argv

    def __enter__(self) -> None:
        self._process = subprocess.Popen(
            self._argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def make_key(path: Path, *, passphrase: str = "") -> Path:
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", path])
    return path


# By which way


def write_config(path: Path, hosts: Mapping[str, Mapping[str, object]]) -> str:
    lines: list[str] = []
    for host, settings in hosts.items():
        lines += [f"Host {host}", *(f"  {name} {value}" for name, value in settings.items())]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def entry(sshd: Sshd, **more: object) -> dict[str, object]:
    return {
        "HostName": "127.0.0.1",
        "Port": sshd.port,
        "User": sshd.user,
        "IdentityFile": sshd.client_key,
        "UserKnownHostsFile": sshd.known_hosts,
        **more,
    }


ALL_FROM_CONFIG = {
    "host": "cluster",
    "port": None,
    "identity_file": None,
    "known_hosts_file": None,
}


async def test_the_ssh_config_is_honoured_but_not_where_it_is_for_people(
    sshd: Sshd, tmp_path: Path
) -> None:
    for_people = {"RequestTTY": "force", "RemoteCommand": "echo hello", "ForwardAgent": "yes"}
    config = write_config(tmp_path / "config", {"clus*": entry(sshd, **for_people)})
    included = tmp_path / "outer"
    included.write_text(f"Include {config}\n")
    async with link_to(sshd, **ALL_FROM_CONFIG, config_files=[str(included)]) as link:
        assert await is_binary_safe(link)


async def test_jump_hosts_of_the_ssh_config_each_have_their_own_keys(
    sshd: Sshd, tmp_path: Path
) -> None:
    with special_sshd() as gate, special_sshd() as second:
        hosts = {
            "gate": entry(gate),
            "second": entry(second),
            "cluster": entry(sshd, ProxyJump="gate,second"),
        }
        config = write_config(tmp_path / "config", hosts)
        async with link_to(sshd, **ALL_FROM_CONFIG, config_files=[config]) as link:
            assert await say(link) == "here\n"
            assert len(gate.sessions()) >= 1
            assert len(second.sessions()) >= 1
            second.cut()
            await wait_for_call(link)
        assert "Accepted publickey" in gate.log


async def test_a_jump_for_every_host_does_not_count_for_the_jump_host_itself(
    sshd: Sshd, tmp_path: Path
) -> None:
    with special_sshd() as gate:
        hosts = {"gate": entry(gate), "cluster": entry(sshd), "*": {"ProxyJump": "gate"}}
        config = write_config(tmp_path / "config", hosts)
        async with link_to(sshd, **ALL_FROM_CONFIG, config_files=[config]) as link:
            assert await say(link) == "here\n"
            assert gate.sessions()


async def test_a_proxy_command_is_run(sshd: Sshd, tmp_path: Path) -> None:
    relay = tmp_path / "relay.py"
    relay.write_text(
        "import socket, sys, threading, os\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def back():\n"
        "    while data := s.recv(65536): os.write(1, data)\n"
        "threading.Thread(target=back, daemon=True).start()\n"
        "while data := os.read(0, 65536): s.sendall(data)\n"
    )
    proxied = entry(sshd, ProxyCommand=f"/usr/bin/python3 {relay} %h %p")
    config = write_config(tmp_path / "config", {"cluster": proxied})
    async with link_to(sshd, **ALL_FROM_CONFIG, config_files=[config]) as link:
        assert await is_binary_safe(link)


async def test_a_connection_that_a_person_has_opened_is_used_and_no_other(
    sshd: Sshd, tmp_path: Path
) -> None:
    require("ssh", [] if shutil.which("ssh") else ["ssh"])
    control = sshd.folder / "control"
    config = write_config(tmp_path / "config", {"cluster": entry(sshd)})
    changes = {
        **ALL_FROM_CONFIG,
        "config_files": [config],
        "control_path": str(control),
        "user": None,
    }
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    here = server.sockets[0].getsockname()[1]
    async with server, link_to(sshd, **changes) as link:
        with pytest.raises(TransportError, match=r"ssh\.control_path.*ssh -M -S"):
            await say(link)
        for _ in range(2):  # the person comes back after the connection was lost
            with Background(
                "ssh", f"-F{config}", "-MN", f"-S{control}", "-oBatchMode=yes", "cluster"
            ):
                await asyncio.to_thread(
                    wait_until, control.exists, "ssh opens its socket", limit_s=60
                )
                await wait_for_call(link)
                assert await is_binary_safe(link)
                there = await link.forward("127.0.0.1", here)
                assert await asyncio.wait_for(_ask(there), 60) == b"got x\xff"
                assert await link.forward("127.0.0.1", here) == there, "none is left over"
            control.unlink(missing_ok=True)


async def test_a_connection_of_somebody_else_is_not_used(sshd: Sshd) -> None:
    link = link_to(sshd)
    keep_user(link, "somebody")
    async with link:
        with pytest.raises(TransportError, match=f"{sshd.user} is logged in on .*, not somebody"):
            await say(link)


async def wait_for_call(link: Link, *, limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while True:
        try:
            await say(link)
        except TransportError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            return


# Limits


async def test_many_calls_at_once_go_through_one_session() -> None:
    with special_sshd(MaxSessions="1") as sshd:
        async with link_to(sshd) as link:
            user = transport_of(link)
            texts = [f"{number}" for number in range(100)]
            found = await asyncio.gather(*(user.run(command("echo", text)) for text in texts))
            assert [done.stdout_text.strip() for done in found] == texts


async def test_much_output_holds_up_no_small_call(sshd: Sshd) -> None:
    async with link_to(sshd) as link:
        user = transport_of(link)
        size = 50 << 20
        large = asyncio.create_task(user.run(command("head", "-c", str(size), "/dev/zero")))
        small = 0
        while not large.done():
            assert await say(link) == "here\n"
            small += 1
        assert len((await large).stdout) == size
        assert small > 3


# Dead links


class Hole:
    """A TCP proxy before sshd, slow, or swallowing all that comes while its connections look well."""

    def __init__(self, port: int) -> None:
        self._to, self.is_hole, self.nap_s = port, False, 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        beyond, back = await asyncio.open_connection("127.0.0.1", self._to)
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(beyond, writer))
        finally:
            writer.close()
            back.close()
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_mine = False
        while data := await reader.read(1 << 15):
            await asyncio.sleep(self.nap_s)
            is_mine = is_mine or self.is_hole  # once swallowed, for good
            if not is_mine:
                with contextlib.suppress(ConnectionError):
                    writer.write(data)
                    await writer.drain()


def known_as(sshd: Sshd, port: int, folder: Path) -> dict[str, object]:
    """Return settings for the same host key behind another port."""
    known = folder / f"known-{port}"
    known.write_text(sshd.known_hosts.read_text().replace(f":{sshd.port} ", f":{port} "))
    return {"port": port, "known_hosts_file": str(known)}


async def test_a_link_that_swallows_everything_is_found_and_replaced(
    sshd: Sshd, tmp_path: Path
) -> None:
    hole = Hole(sshd.port)
    async with hole.open() as port:
        link = link_to(sshd, silence_s=2, **known_as(sshd, port, tmp_path))
        async with link:
            assert await say(link) == "here\n"
            hole.is_hole = True
            with pytest.raises(LinkLost, match="nothing was heard for 2 s"):
                await say(link)
            hole.is_hole = False
            await wait_for_call(link)


async def test_a_slow_link_is_not_taken_for_a_dead_one(
    sshd: Sshd, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hole = Hole(sshd.port)
    content = os.urandom(1 << 20)
    async with hole.open() as port:
        link = link_to(sshd, silence_s=2.5, **known_as(sshd, port, tmp_path))
        async with link:
            assert await say(link) == "here\n"
            hole.nap_s = 0.1  # so that it takes longer than the silence of a dead one
            folder = tmp_path / "jobs" / "job"
            entry = Entry(path="file", kind=Kind.FILE, content=content)
            await transport_of(link).install(folder, [entry])
            assert (folder / "file").read_bytes() == content
    assert "the link was lost" not in caplog.text


async def test_a_host_that_never_answers_does_not_hold_up_for_long(
    sshd: Sshd, tmp_path: Path
) -> None:
    hole = Hole(sshd.port)
    hole.is_hole = True
    async with hole.open() as port:
        settings = known_as(sshd, port, tmp_path)
        async with link_to(sshd, connect_timeout_s=1, **settings) as link:
            with pytest.raises(TransportError, match="gave no answer within 1 s"):
                await say(link)


async def test_what_ran_on_a_lost_link_is_gone_before_the_next_one_is_used(
    sshd: Sshd, tmp_path: Path
) -> None:
    async with link_to(sshd, silence_s=2) as link:
        user = transport_of(link)
        note = tmp_path / "note"
        script = f"echo $$ >{note}; trap '' TERM; sleep 30"
        running = asyncio.create_task(user.run(command("sh", "-c", script)))
        await asyncio.to_thread(
            wait_until, lambda: note.exists() and note.read_text(), "it runs", limit_s=60
        )
        sshd.freeze()
        with pytest.raises(LinkLost):
            await running
        await wait_for_call(link)
        pid = int(note.read_text())
        assert not is_alive(pid)
        sshd.thaw()


async def test_files_are_moved_again_after_the_link_was_lost(sshd: Sshd, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(32 << 20))
    async with link_to(sshd) as link:
        user = transport_of(link)
        assert await say(link) == "here\n"
        reading = asyncio.create_task(user.read(path, offset=0, limit=64 << 20))
        await asyncio.sleep(0.05)
        sshd.cut()
        assert await reading == path.read_bytes()


# The port for jobs


async def test_a_port_is_reached_through_the_far_machine_on_each_new_link(sshd: Sshd) -> None:
    (there,) = free_ports(1)
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    link = link_to(sshd)
    keep_forwarded(link, ("127.0.0.1", server.sockets[0].getsockname()[1]), at=("127.0.0.1", there))
    async with server, link:
        for _ in range(2):
            await wait_for_call(link)
            assert await asyncio.wait_for(_ask(there), 60) == b"got x\xff"
            sshd.cut()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"got " + await reader.read(100))
    writer.write_eof()
    writer.close()


async def _ask(port: int) -> bytes:
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"x\xff")
            said = await reader.read()
            writer.close()
        except OSError:
            said = b""
        if said:
            return said
        await asyncio.sleep(0.05)


async def test_an_sshd_that_forwards_nothing_is_named_and_the_link_stays(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with special_sshd(AllowTcpForwarding="no") as sshd:
        link = link_to(sshd)
        keep_forwarded(link, ("127.0.0.1", 9), at=("127.0.0.1", 0))
        async with link:
            assert await say(link) == "here\n"
            deadline = time.monotonic() + 60
            while "AllowTcpForwarding" not in caplog.text:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            assert await say(link) == "here\n"
