"""As whom programs run: this process's own user, or another one through sudo."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
from collections.abc import Mapping

from shipway_launcher.config import Impersonation, LauncherSettings
from shipway_launcher.errors import WrongRequest
from shipway_launcher.transport.base import Transport
from shipway_launcher.transport.local import LocalTransport
from shipway_launcher.transport.sudo import SudoTransport

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}\$?")


def check_user_name(text: str) -> str:
    """Return *text* if it can be the name of a user.

    Raises:
        WrongRequest: It cannot.
    """
    if not _NAME.fullmatch(text):
        raise WrongRequest(f"{text[:80]!r} is no user name")
    return text


class Users:
    """Finds the transport of a user."""

    def __init__(self, settings: LauncherSettings) -> None:
        """Remember how the settings allow to act as others."""
        self._settings = settings
        bin_dir = settings.slurm.bin_dir
        self.path = f"{bin_dir}:{settings.path}" if bin_dir else settings.path or os.defpath
        me = pwd.getpwuid(os.geteuid())
        self._local = LocalTransport(me.pw_name, self._environment_of(me))
        self._known: dict[str, Transport] = {me.pw_name: self._local}

    @property
    def own(self) -> LocalTransport:
        """The transport of the launcher's own user."""
        return self._local

    async def get(self, user: str) -> Transport:
        """Return the transport of *user*; an empty name is the launcher's own user.

        Raises:
            WrongRequest: Nobody may act as this user here; the text says what to set.
        """
        known = self._known.get(user or self._local.user)
        if known is None:
            known = self._known[user] = await self._make(user)
        return known

    async def _make(self, user: str) -> Transport:
        try:
            check_user_name(user)
        except WrongRequest as error:
            raise WrongRequest(f"impersonate: {error}") from None
        try:
            account = await asyncio.to_thread(pwd.getpwnam, user)
        except KeyError:
            raise WrongRequest(f"impersonate: there is no user {user} on this machine") from None
        if account.pw_uid == 0:
            raise WrongRequest(
                "impersonate: jobs do not run as root unless the launcher does"
                " (user_name: root in its settings)"
            )
        if self._settings.impersonation is not Impersonation.SUDO:
            raise WrongRequest(
                f"impersonate: the launcher runs jobs as {self._local.user} only; set"
                f" impersonation: sudo in its settings to run them as {user}"
            )
        allowed = self._settings.sudo_authorized
        if allowed != "ALL" and user not in {name.strip() for name in allowed.split(",")}:
            raise WrongRequest(f"impersonate: {user} is not in sudo_authorized ({allowed})")
        return SudoTransport(
            user, self._environment_of(account), self._local, self._settings.sudo_helper
        )

    def _environment_of(self, account: pwd.struct_passwd) -> Mapping[str, str]:
        slurm = self._settings.slurm
        environment = {
            "PATH": self.path,
            "HOME": account.pw_dir,
            "USER": account.pw_name,
            "LOGNAME": account.pw_name,
            "SHELL": account.pw_shell or "/bin/sh",
            "LANG": "C.UTF-8",
        }
        if self._settings.ld_library_path:
            environment["LD_LIBRARY_PATH"] = self._settings.ld_library_path
        if slurm.conf_file is not None:
            environment["SLURM_CONF"] = str(slurm.conf_file)
        return {**environment, **slurm.environment}
