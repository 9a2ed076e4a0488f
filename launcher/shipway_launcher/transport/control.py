"""Through the control socket of an OpenSSH connection that somebody has opened: by the ssh program.

It never logs in by itself: where there is no such connection, there is no way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from shipway_launcher.errors import SetupError, TransportError
from shipway_launcher.transport.session import Stream
from shipway_launcher.transport.settings import DEFAULT_CONFIG_FILES, SshSettings
from shipway_launcher.transport.words import LastWords

_BLOCK = 1 << 16
_QUESTION_S = 15.0
_NEVER_BY_ITSELF = (
    *("-oBatchMode=yes", "-oControlMaster=no", "-oProxyCommand=false", "-oProxyJump=none"),
    *("-oForwardAgent=no", "-oForwardX11=no", "-oRemoteCommand=none"),
)


class OpensshStream:
    """A program on the far machine, behind a child of ours."""

    def __init__(self, dialer: OpensshDialer, process: Process) -> None:
        """Take over a started *process*."""
        self._dialer, self._process = dialer, process
        self._words = LastWords()

    async def read(self) -> bytes:
        assert self._process.stdout is not None, "was started with pipes"
        return await self._process.stdout.read(_BLOCK)

    async def write(self, data: bytes) -> None:
        assert self._process.stdin is not None, "was started with pipes"
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    async def forward(self, host: str, port: int) -> int:
        # Asked for again, as after a lost session, it gives the port that there is already.
        place = f"[{host}]" if ":" in host else host
        said = await self._dialer.control("forward", f"-R127.0.0.1:0:{place}:{port}")
        found = re.search(r"^\s*(\d+)\s*$", said, re.MULTILINE)
        if found is None:
            raise TransportError(f"ssh forwards a port, and does not say which: {said[:200]!r}")
        return int(found[1])

    async def last_words(self) -> str:
        return await self._words.text(self._process.wait())

    async def collect_words(self) -> None:
        """Keep what comes as standard error, for as long as it comes."""
        stderr = self._process.stderr
        assert stderr is not None, "was started with pipes"
        await self._words.collect(lambda: stderr.read(_BLOCK))


class OpensshDialer:
    """Opens sessions of one connection that somebody else keeps."""

    def __init__(self, settings: SshSettings) -> None:
        """Use *settings*, whose host and control_path are set."""
        assert settings.host is not None, "only made for a host"
        assert settings.control_path is not None, "only made for a control socket"
        self._host, self._configured_user = settings.host, settings.user
        self._options = (
            *_config_option(settings.config_files),
            f"-S{settings.control_path.expanduser()}",
            *_NEVER_BY_ITSELF,
            *((f"-l{settings.user}",) if settings.user else ()),
            *((f"-p{settings.port}",) if settings.port else ()),
        )

    async def user(self) -> str:
        """Return as whom sessions are expected to be.

        Raises:
            SetupError: ssh cannot say.
        """
        if self._configured_user is not None:
            return self._configured_user
        try:
            said = await self._ask(["-G", self._host])
        except TransportError as error:
            raise SetupError(f"ssh: {error}") from error
        found = re.search(r"^user (\S+)$", said, re.MULTILINE)
        if found is None:
            raise SetupError(f"ssh.user: ssh -G {self._host} names none")
        return found[1]

    @asynccontextmanager
    async def dial(self, command: str) -> AsyncGenerator[Stream]:
        """Run *command* in a session of the connection there is.

        Raises:
            TransportError: There is none, or it opens no session.
        """
        await self.control("check")
        process = await self._start(
            ["-T", "-oClearAllForwardings=yes", self._host, command], stdin=PIPE
        )
        stream = OpensshStream(self, process)
        words = asyncio.create_task(stream.collect_words())
        try:
            yield stream
        finally:
            words.cancel()
            _end(process)
            await process.wait()

    async def control(self, order: str, *options: str) -> str:
        """Give an order to whoever keeps the connection, and return the answer.

        Raises:
            TransportError: It is not obeyed.
        """
        try:
            return await self._ask(["-O", order, *options, self._host])
        except TransportError as error:
            raise TransportError(
                f"ssh.control_path: {error}; open a connection with ssh -M -S"
            ) from error

    async def _ask(self, arguments: Sequence[str]) -> str:
        process = await self._start(arguments, stdin=DEVNULL)
        try:
            async with asyncio.timeout(_QUESTION_S):
                out, err = await process.communicate()
        except TimeoutError:
            raise TransportError(f"ssh gave no answer within {_QUESTION_S:g} s") from None
        finally:
            _end(process)
            await process.wait()
        if process.returncode != 0:
            said = err.decode("utf-8", "replace").strip()[-500:]
            raise TransportError(said or f"ssh exited {process.returncode}")
        return out.decode("utf-8", "replace")

    async def _start(self, arguments: Sequence[str], *, stdin: int) -> Process:
        try:
            return await asyncio.create_subprocess_exec(
                *("ssh", *self._options, *arguments),
                stdin=stdin,
                stdout=PIPE,
                stderr=PIPE,
                start_new_session=True,  # without a terminal nobody can be asked
            )
        except OSError as error:
            raise TransportError(f"cannot run ssh: {error}") from error


def _config_option(files: Sequence[Path]) -> list[str]:
    """Name the settings file; ssh takes one, or finds the usual two by itself."""
    if tuple(files) == DEFAULT_CONFIG_FILES:
        return []
    there = [path.expanduser() for path in files if path.expanduser().is_file()]
    return [f"-F{there[0] if there else 'none'}"]


def _end(process: Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
