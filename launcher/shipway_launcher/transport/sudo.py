"""The same machine as another transport's, as another user, through `sudo -n -u`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from shipway_launcher.errors import TransportError
from shipway_launcher.transport.base import Command, Completed, Transport
from shipway_launcher.transport.tree import Entry, FileStatus
from shipway_launcher.transport.wire import pack

DEFAULT_HELPER = (sys.executable, "-I", "-m", "shipway_launcher.transport.helper")

_FILE_TIMEOUT_S = 120.0

_SHOWN = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_ALL|SLURM_CONF|PBS_CONF_FILE|SLURM_TIME_FORMAT"
    r"|LD_\w+|TMPDIR|TZDIR|LOCPATH|NLSPATH|GCONV_PATH|LOCALDOMAIN|HOSTALIASES|RES_OPTIONS|MALLOC_\w+"
)
"""Variables that are given as arguments of sudo, which everybody on the machine can read.

They are no secrets, and sudo would replace them, or lose them at its own start as a program that
changes its user. All others stay in the environment: a site may have put anything there.
"""


class SudoTransport:
    """Runs programs as *user*; files are moved by our own helper program, run as that user.

    sudo must allow the launcher's user, without a password and with SETENV, to run as *user* the
    Slurm commands and the helper, which the user must be able to read and run.
    """

    def __init__(
        self,
        user: str,
        environment: Mapping[str, str],
        own: Transport,
        helper: Sequence[str] = DEFAULT_HELPER,
    ) -> None:
        """Act as *user*.

        Args:
            user: A checked name of an existing user.
            environment: What every program of this user gets.
            own: Runs sudo itself.
            helper: The helper program.
        """
        self._helper = tuple(helper)
        self._user = user
        self._environment = dict(environment)
        self._own = own

    @property
    def user(self) -> str:
        return self._user

    async def run(self, command: Command) -> Completed:
        settings = {**self._environment, **command.environment}
        shown = {name: value for name, value in settings.items() if _SHOWN.fullmatch(name)}
        hidden = {name: value for name, value in settings.items() if name not in shown}
        return await self._own.run(
            Command(
                argv=(
                    *("sudo", "-n", "-u", self._user),
                    *([f"--preserve-env={','.join(hidden)}"] if hidden else []),
                    *(f"{name}={value}" for name, value in shown.items()),
                    *("--", *command.argv),
                ),
                environment=hidden,
                stdin=command.stdin,
                timeout_s=command.timeout_s,
                output_limit_bytes=command.output_limit_bytes,
                is_repeatable=command.is_repeatable,
            )
        )

    async def install(self, folder: Path, entries: Sequence[Entry]) -> None:
        await self._help("install", str(folder), stdin=pack(entries))

    async def size(self, path: Path) -> int | None:
        found: int | None = json.loads(await self._help("size", str(path)))
        return found

    async def status(self, path: Path) -> FileStatus | None:
        found = json.loads(await self._help("status", str(path)))
        return None if found is None else FileStatus(size=found[0], modified_at=found[1])

    async def erase(self, path: Path) -> None:
        await self._help("erase", str(path))

    async def read(self, path: Path, *, offset: int, limit: int) -> bytes:
        return await self._help("read", str(path), str(offset), str(limit))

    async def remove(self, folder: Path) -> None:
        await self._help("remove", str(folder))

    async def _help(self, *arguments: str, stdin: bytes = b"") -> bytes:
        done = await self.run(
            Command(
                argv=(*self._helper, *arguments),
                stdin=stdin,
                timeout_s=_FILE_TIMEOUT_S,
                is_repeatable=arguments[0] != "install",
            )
        )
        if done.exit_status != 0:
            raise TransportError(
                f"cannot {arguments[0]} {arguments[1]} as {self._user}:"
                f" {done.stderr_text.strip()[-500:]}"
            )
        return done.stdout
