"""Look at what only matters where the cluster is reached by SSH."""

from __future__ import annotations

from collections.abc import AsyncIterator

from shipway_common.findings import Finding, bad, good
from shipway_launcher.config import LauncherSettings
from shipway_launcher.errors import TransportError
from shipway_launcher.transport.base import Command
from shipway_launcher.transport.remote import RemoteMachine
from shipway_launcher.users import Users

_TEST_S = 20.0


async def check_ssh(settings: LauncherSettings, users: Users) -> AsyncIterator[Finding]:
    """Log in, and look at the login node; nothing is left there.

    Raises:
        TransportError: It is not reached.
    """
    machine = users.machine
    if not isinstance(machine, RemoteMachine):
        return
    login = await machine.login()
    yield good("ssh.host", f"{login.account.user} logs in on {machine.name}")
    yield await _check_root(str(settings.job_storage_root), machine, users)
    if settings.relay.enabled:
        yield await _check_forwarding(settings.relay.port, machine)


async def _check_root(root: str, machine: RemoteMachine, users: Users) -> Finding:
    key = "job_storage_root"

    async def is_so(flag: str) -> bool:
        asked = Command(argv=("test", flag, root), timeout_s=_TEST_S, is_repeatable=True)
        return (await users.own.run(asked)).exit_status == 0

    if not await is_so("-e"):
        return good(key, f"{root} will be made on {machine.name} at the first start")
    if not await is_so("-O") or not await is_so("-w"):
        return bad(key, f"{root} on {machine.name} does not belong to {users.own.user}")
    return good(key, f"{root} on {machine.name}")


async def _check_forwarding(port: int, machine: RemoteMachine) -> Finding:
    try:
        await machine.try_forwarding(port)
    except TransportError as error:
        return bad("relay", f"jobs cannot reach it: {error}")
    return good("relay", f"sshd on {machine.name} forwards a port to it")
