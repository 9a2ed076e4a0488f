"""As whom programs run: the own user of the cluster's machine, or another one through sudo there."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from shipway_launcher.carriers.table import Manager
from shipway_launcher.config import Impersonation, LauncherSettings
from shipway_launcher.errors import WrongRequest
from shipway_launcher.transport.base import Transport
from shipway_launcher.transport.machine import Account, LocalMachine, Login, Machine
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

    def __init__(self, settings: LauncherSettings, machine: Machine | None = None) -> None:
        """Remember how the settings allow to act as others.

        Args:
            settings: The launcher's.
            machine: Where programs run; by default this machine.
        """
        self._settings = settings
        self.machine: Machine = machine or LocalMachine()
        bin_dir = settings.bin_dir
        self.path = f"{bin_dir}:{settings.path}" if bin_dir else settings.path or os.defpath
        """Where programs are looked for; may hold `${PATH}`, the machine's own."""
        self._own = self.machine.transport(lambda login: self._environment_of(login.account, login))
        self._known: dict[str, Transport] = {self._own.user: self._own}

    @property
    def own(self) -> Transport:
        """The transport of the machine's own user."""
        return self._own

    async def get(self, user: str) -> Transport:
        """Return the transport of *user*; an empty name is the machine's own user.

        Raises:
            WrongRequest: Nobody may act as this user here; the text says what to set.
            TransportError: The machine is not reached, which knows the user or not.
        """
        known = self._known.get(user or self._own.user)
        if known is None:
            known = self._known[user] = await self._make(user)
        return known

    async def _make(self, user: str) -> Transport:
        try:
            check_user_name(user)
        except WrongRequest as error:
            raise WrongRequest(f"impersonate: {error}") from None
        account = await self.machine.find_account(user)
        if account is None:
            raise WrongRequest(f"impersonate: there is no user {user} on {self.machine.name}")
        if account.uid == 0:
            raise WrongRequest(
                "impersonate: jobs do not run as root unless the launcher does"
                " (user_name: root in its settings)"
            )
        if self._settings.impersonation is not Impersonation.SUDO:
            raise WrongRequest(
                f"impersonate: the launcher runs jobs as {self._own.user} only; set"
                f" impersonation: sudo in its settings to run them as {user}"
            )
        allowed = self._settings.sudo_authorized
        if allowed != "ALL" and user not in {name.strip() for name in allowed.split(",")}:
            raise WrongRequest(f"impersonate: {user} is not in sudo_authorized ({allowed})")
        environment = self._environment_of(account, await self.machine.login())
        return SudoTransport(user, environment, self._own, self._settings.sudo_helper)

    def _environment_of(self, account: Account, login: Login) -> Mapping[str, str]:
        slurm = self._settings.slurm
        environment = {
            "PATH": self.path.replace("${PATH}", login.path),
            "HOME": account.home,
            "USER": account.user,
            "LOGNAME": account.user,
            "SHELL": account.shell or "/bin/sh",
            "LANG": "C.UTF-8",
        }
        if self._settings.ld_library_path:
            environment["LD_LIBRARY_PATH"] = self._settings.ld_library_path
        if self._settings.workload_manager is Manager.PBS:
            pbs = self._settings.pbs
            return environment | ({"PBS_CONF_FILE": str(pbs.conf_file)} if pbs.conf_file else {})
        conf_file = slurm.conf_file or login.slurm_conf
        if conf_file is not None:
            environment["SLURM_CONF"] = str(conf_file)
        return {**environment, **slurm.environment}
