"""The way to the machine of the workload manager that the settings describe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from shipway_launcher.config import Impersonation, LauncherSettings
from shipway_launcher.dispatches.files import jobs_root
from shipway_launcher.errors import SetupError
from shipway_launcher.transport.control import OpensshDialer
from shipway_launcher.transport.dial import AsyncsshDialer
from shipway_launcher.transport.link import Link
from shipway_launcher.transport.machine import LocalMachine, Machine
from shipway_launcher.transport.remote import (
    RemoteMachine,
    keep_forwarded,
    keep_root,
    keep_user,
)
from shipway_launcher.transport.settings import SshSettings
from shipway_launcher.transport.tree import make_root


@asynccontextmanager
async def open_machine(
    settings: LauncherSettings, *, for_jobs: bool = False
) -> AsyncGenerator[Machine]:
    """Give the machine on which Slurm's commands run; a link to it lasts as long as this.

    A login node that is not reached is no error yet: whatever needs it says so.

    Args:
        settings: The launcher's.
        for_jobs: Whether jobs are to run: then their folders are made there, and the relay's port
            is reached there, now and whenever the machine is reached again.

    Raises:
        SetupError: The settings do not fit the machine.
    """
    root, jobs = settings.job_storage_root, jobs_root(settings.job_storage_root)
    is_shared = settings.impersonation is not Impersonation.NONE
    if not settings.ssh.is_used:
        if for_jobs:
            try:
                await asyncio.to_thread(make_root, root, jobs, is_shared=is_shared)
            except OSError as error:
                raise SetupError(f"job_storage_root: {error}") from error
        yield LocalMachine()
        return
    link, user = await _make_link(settings)
    if for_jobs:
        keep_root(link, root, jobs, is_shared=is_shared)
        _keep_relay(settings, link)
    async with link:
        yield RemoteMachine(user, link)


async def _make_link(settings: LauncherSettings) -> tuple[Link, str]:
    """Choose who logs in how."""
    ssh = settings.ssh
    dialer = _make_dialer(ssh)
    user = await dialer.user()
    link = Link(
        str(ssh.host),
        dialer.dial,
        pythons=ssh.pythons(settings.agent_command[0]),
        connect_timeout_s=ssh.connect_timeout_s,
        silence_s=ssh.silence_s,
    )
    if ssh.control_path is not None:  # whoever opened it chose the user
        keep_user(link, user)
    return link, user


def _make_dialer(ssh: SshSettings) -> AsyncsshDialer | OpensshDialer:
    return AsyncsshDialer(ssh) if ssh.control_path is None else OpensshDialer(ssh)


def _keep_relay(settings: LauncherSettings, link: Link) -> None:
    relay, ssh = settings.relay, settings.ssh
    if not relay.enabled or relay.advertised_url is None:
        return
    here = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(relay.host, relay.host)  # noqa: S104
    port = ssh.relay_port or urlsplit(relay.advertised_url).port or relay.port
    keep_forwarded(link, (here, relay.port), at=(ssh.relay_host, port))
