"""The machine on which the workload manager's commands run: this one, or a login node elsewhere."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from shipway_launcher.transport.base import Transport
from shipway_launcher.transport.local import LocalTransport


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user of a machine."""

    user: str
    uid: int
    home: str
    shell: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What programs of a machine's own user find there."""

    account: Account
    path: str
    """What `${PATH}` stands for."""
    slurm_conf: str | None
    """Where the site has said that Slurm's configuration is."""


class Machine(Protocol):
    """Where Slurm's commands run. Every method may raise `TransportError`: it is not reached."""

    @property
    def user(self) -> str:
        """Who runs the programs where nobody else is named."""
        ...

    @property
    def name(self) -> str:
        """How people call it, as in "on this machine"."""
        ...

    def transport(self, environment: Callable[[Login], Mapping[str, str]]) -> Transport:
        """Make the transport of its own user.

        Args:
            environment: Makes what every program gets of what is found there.
        """
        ...

    async def login(self) -> Login:
        """Say what is found there."""
        ...

    async def find_account(self, user: str) -> Account | None:
        """Return what the machine knows of a user, None if it knows none."""
        ...

    async def find_program(self, name: str, path: str) -> str | None:
        """Return the full path of a program in *path*, which may hold `${PATH}`; None: no such."""
        ...


class LocalMachine:
    """The one that this process runs on."""

    name = "this machine"

    def __init__(self) -> None:
        """Look who runs this process."""
        self._own = _account_of(pwd.getpwuid(os.geteuid()))

    @property
    def user(self) -> str:
        return self._own.user

    def transport(self, environment: Callable[[Login], Mapping[str, str]]) -> LocalTransport:
        return LocalTransport(self._own.user, environment(self._login))

    async def login(self) -> Login:
        return self._login

    @property
    def _login(self) -> Login:
        return Login(account=self._own, path=os.defpath, slurm_conf=None)

    async def find_account(self, user: str) -> Account | None:
        try:
            return _account_of(await asyncio.to_thread(pwd.getpwnam, user))
        except KeyError:
            return None

    async def find_program(self, name: str, path: str) -> str | None:
        path = path.replace("${PATH}", os.defpath)
        return await asyncio.to_thread(shutil.which, name, path=path)


def _account_of(found: pwd.struct_passwd) -> Account:
    return Account(
        user=found.pw_name, uid=found.pw_uid, home=found.pw_dir, shell=found.pw_shell or "/bin/sh"
    )
