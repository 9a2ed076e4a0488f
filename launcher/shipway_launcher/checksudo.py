"""Look whether the launcher may act for the users of jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator

from shipway_common.findings import Finding, bad, good
from shipway_launcher.config import Impersonation, LauncherSettings
from shipway_launcher.dispatches.files import jobs_root
from shipway_launcher.errors import LauncherError
from shipway_launcher.transport.base import Command
from shipway_launcher.users import Users

_KEY = "impersonation"
_REMEDY = "see `shipway-launcher sudoers`"
_LIMIT_S = 20.0


async def check_sudo(settings: LauncherSettings, users: Users) -> AsyncIterator[Finding]:
    """Act as each user whom the settings name, for a question that changes nothing."""
    if settings.impersonation is not Impersonation.SUDO:
        return
    machine = users.machine
    if await machine.find_program("sudo", users.path) is None:
        yield bad(_KEY, f"there is no sudo on {machine.name}")
        return
    if settings.sudo_authorized == "ALL":
        yield await _check_any(users)
        return
    for name in settings.sudo_authorized.split(","):
        yield await _check_one(settings, users, name.strip())


async def _check_any(users: Users) -> Finding:
    """Ask sudo what it allows, since there is nobody to try it with."""
    asked = Command(argv=("sudo", "-n", "-l"), timeout_s=_LIMIT_S, is_repeatable=True)
    try:
        done = await users.own.run(asked)
    except LauncherError as error:
        return bad(_KEY, str(error))
    if done.exit_status != 0:
        text = done.stderr_text.strip() or f"sudo -n -l ends with {done.exit_status}"
        return bad(_KEY, f"sudo allows {users.own.user} nothing: {text}; {_REMEDY}")
    return good(_KEY, f"sudo has rules for {users.own.user}")


async def _check_one(settings: LauncherSettings, users: Users, name: str) -> Finding:
    place = jobs_root(settings.job_storage_root) / name
    try:
        await (await users.get(name)).status(place)
    except LauncherError as error:
        return bad(_KEY, f"{error}; {_REMEDY}")
    return good(_KEY, f"{users.own.user} acts as {name}")
