"""Log in by SSH, with asyncssh: never asking anybody anything, and trusting no unknown host."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import stat
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipway_launcher.errors import SetupError, TransportError
from shipway_launcher.transport.link import LinkRefused
from shipway_launcher.transport.proxy import run_proxy
from shipway_launcher.transport.session import Stream
from shipway_launcher.transport.settings import SshSettings
from shipway_launcher.transport.words import LastWords

if TYPE_CHECKING:  # takes a fifth of a second, and only some need it
    import asyncssh

log = logging.getLogger(__name__)

_BLOCK = 1 << 16
_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts")


class AsyncsshStream:
    """A program on the far machine, in the one session of a connection."""

    def __init__(
        self, connection: asyncssh.SSHClientConnection, process: asyncssh.SSHClientProcess[bytes]
    ) -> None:
        """Take over a started *process*."""
        self._connection, self._process = connection, process
        self._words = LastWords()

    async def read(self) -> bytes:
        with _lost_as_os_error():
            data: bytes = await self._process.stdout.read(_BLOCK)
            return data

    async def write(self, data: bytes) -> None:
        with _lost_as_os_error():
            self._process.stdin.write(data)
            await self._process.stdin.drain()

    async def forward(self, host: str, port: int) -> int:
        import asyncssh

        try:
            listener = await self._connection.forward_remote_port("127.0.0.1", 0, host, port)
        except (asyncssh.Error, asyncssh.ChannelListenError) as error:
            raise TransportError(
                f"sshd does not forward a port ({error}); it needs AllowTcpForwarding remote"
            ) from error
        return listener.get_port()

    async def last_words(self) -> str:
        return await self._words.text(self._process.wait_closed())

    async def collect_words(self) -> None:
        """Keep what comes as standard error, for as long as it comes."""
        await self._words.collect(self._read_words)

    async def _read_words(self) -> bytes:
        with _lost_as_os_error():
            data: bytes = await self._process.stderr.read(_BLOCK)
            return data


@contextlib.contextmanager
def _lost_as_os_error() -> Generator[None]:
    import asyncssh

    try:
        yield
    except asyncssh.Error as error:
        raise ConnectionError(str(error) or type(error).__name__) from error


class AsyncsshDialer:
    """Opens connections; each reads keys, known hosts and settings anew."""

    def __init__(self, settings: SshSettings) -> None:
        """Use *settings*, whose host is set."""
        assert settings.host is not None, "only made for a host"
        self._settings, self._host = settings, settings.host

    async def user(self) -> str:
        """Return as whom the connections log in.

        Raises:
            SetupError: The settings cannot be used.
        """
        try:
            options, _ = await asyncio.to_thread(self._read_settings, self._host)
        except TransportError as error:
            raise SetupError(f"ssh: {error}") from error
        return options.username

    @asynccontextmanager
    async def dial(self, command: str) -> AsyncGenerator[Stream]:
        """Log in and run *command*.

        Raises:
            LinkRefused: Who is there is not trusted, or does not let us in.
            TransportError: Nobody is there.
        """
        import asyncssh

        async with AsyncExitStack() as stack:
            connection = await self._connect(stack, self._host, None)
            try:
                # Whatever the ssh config wants for people: bytes go through as they are.
                process = await connection.create_process(
                    command, encoding=None, request_pty=False, x11_forwarding=False
                )
            except asyncssh.ChannelOpenError as error:
                raise TransportError(
                    f"{self._host} opens no session ({error.reason}); see MaxSessions of its sshd"
                ) from error
            except (OSError, asyncssh.Error) as error:
                raise _explain(error, self._host) from error
            stream = AsyncsshStream(connection, process)
            words = asyncio.create_task(stream.collect_words())
            stack.callback(words.cancel)
            yield stream

    async def _connect(
        self, stack: AsyncExitStack, host: str, tunnel: asyncssh.SSHClientConnection | None
    ) -> asyncssh.SSHClientConnection:
        import asyncssh

        try:
            options, given = await asyncio.to_thread(self._read_settings, host)
            if tunnel is None:
                for jump in self._jumps(given["host"], options):
                    tunnel = await self._connect(stack, jump, tunnel)
            given["tunnel"] = tunnel
            proxy = options.config.get("ProxyCommand")
            if tunnel is None and isinstance(proxy, str) and proxy.lower() != "none":
                given["sock"] = await stack.enter_async_context(run_proxy(proxy))
            connection = await asyncssh.connect(**given)
        except (OSError, ValueError, asyncssh.Error) as error:
            raise _explain(error, host) from error
        stack.callback(connection.abort)
        return connection

    def _read_settings(
        self, host: str
    ) -> tuple[asyncssh.SSHClientConnectionOptions, dict[str, Any]]:
        """Read everything that says how to log in to *host*; also as arguments for asyncssh."""
        import asyncssh

        asyncssh.set_log_level(logging.WARNING)
        settings = self._settings
        files = [path.expanduser() for path in settings.config_files]
        given: dict[str, Any] = {
            "config": [str(path) for path in files if path.is_file()],
            "password_auth": False,
            "kbdint_auth": False,
            "agent_forwarding": False,
            "proxy_command": None,
            **(self._own_host() if host == self._host else _jump_host(host)),
        }
        try:
            if settings.identity_file is not None:
                given["client_keys"] = [str(_private_file(settings.identity_file.expanduser()))]
            else:
                peek = asyncssh.SSHClientConnectionOptions(**given, client_keys=None)
                given |= _usable_keys(peek)
            options = asyncssh.SSHClientConnectionOptions(**given)
            given["known_hosts"] = self._known_hosts(options.known_hosts)
        except (OSError, ValueError, asyncssh.Error, TransportError) as error:
            raise _explain(error, host) from error
        return options, given

    def _jumps(self, host: str, options: asyncssh.SSHClientConnectionOptions) -> list[str]:
        """Return through which hosts to go; none is its own, though a `Host *` may say so."""
        text = options.tunnel if isinstance(options.tunnel, str) else ""
        jumps = [] if text in ("", "none") else text.split(",")
        return [] if [_jump_host(jump)["host"] for jump in jumps] == [host] else jumps

    def _own_host(self) -> dict[str, Any]:
        settings = self._settings
        given = {"username": settings.user, "port": settings.port, "tunnel": settings.jump}
        set_ones = {name: value for name, value in given.items() if value is not None}
        return {"host": self._host, **set_ones}

    def _known_hosts(self, configured: Any) -> bytes:
        """Return the trusted keys; what asyncssh takes for "all keys" is none of them."""
        if self._settings.known_hosts_file is not None:
            try:
                return self._settings.known_hosts_file.expanduser().read_bytes()
            except OSError as error:
                raise LinkRefused(f"ssh.known_hosts_file: {error}") from error
        names: Sequence[str] = [str(name) for name in configured or ()]
        if configured is not None and not names:
            names = _KNOWN_HOSTS
        paths = [Path(name).expanduser() for name in names]
        return b"\n".join([b"", *(path.read_bytes() for path in paths if path.is_file())]) or b"\n"


def _private_file(path: Path) -> Path:
    """Return the path of a key that nobody else can read."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise LinkRefused(f"ssh.identity_file: {error}") from error
    if mode & 0o077:
        raise LinkRefused(f"ssh.identity_file: others may read {path}; chmod 600 {path}")
    return path


def _usable_keys(options: asyncssh.SSHClientConnectionOptions) -> dict[str, Any]:
    """Leave out what an ssh config names and what is not there, as OpenSSH does.

    Keys with a passphrase stay: their public parts choose among those of an agent.
    """
    found: Any = options.config.get("IdentityFile", ())
    names = [str(name) for name in found]
    there = [name for name in names if Path(name).expanduser().is_file()]
    if not options.config.get("IdentitiesOnly"):  # a public key alone is for an agent
        there = [name for name in there if not name.endswith(".pub")]
    return {} if there == names else {"client_keys": there, "ignore_encrypted": True}


def _jump_host(text: str) -> dict[str, Any]:
    """Read `[user@]host[:port]`."""
    user, _, place = text.rpartition("@")
    found = re.fullmatch(
        r"\[(?P<v6>[^]]+)\](?::(?P<p6>\d+))?|(?P<name>[^:]+)(?::(?P<p>\d+))?", place
    )
    if found is None:
        raise ValueError(f"{text!r} is no [user@]host[:port]")
    port = found["p6"] or found["p"]
    return {
        "host": found["v6"] or found["name"],
        **({"username": user} if user else {}),
        **({"port": int(port)} if port else {}),
    }


def _explain(error: Exception, host: str) -> TransportError:
    """Say what went wrong and what to do about it."""
    import asyncssh

    said = str(error) or type(error).__name__
    match error:
        case TransportError():
            return error
        case asyncssh.HostKeyNotVerifiable():
            return LinkRefused(
                f"the host key of {host} is not the one that is known, or none is known ({said});"
                f" compare its fingerprint with what the site says, then renew its entry in"
                f" known_hosts (`ssh-keygen -R`, `ssh-keyscan`)"
            )
        case asyncssh.PermissionDenied():
            return LinkRefused(
                f"{host} accepts no key of ours ({said}); put the public key into its"
                " authorized_keys, and see ssh.user, ssh.identity_file and SSH_AUTH_SOCK; where logging"
                " in takes a person, see ssh.control_path"
            )
        case asyncssh.KeyImportError() | asyncssh.KeyEncryptionError():
            return LinkRefused(
                f"a key for {host} cannot be used ({said}); a key with a passphrase must be in an"
                " agent (SSH_AUTH_SOCK)"
            )
        case socket.gaierror():
            return TransportError(f"the name {host} is not known ({said})")
        case ConnectionRefusedError():
            return TransportError(f"nothing listens on {host}'s ssh port ({said})")
        case asyncssh.Error() | OSError():
            return TransportError(f"{host} cannot be reached by SSH: {said}")
        case _:
            return LinkRefused(f"the SSH settings for {host} cannot be used: {said}")
