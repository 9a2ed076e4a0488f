"""Look for what is missing or unsafe before anybody finds out the hard way."""

from __future__ import annotations

import asyncio
import grp
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from shipway_common.files import find_existing
from shipway_common.findings import Finding, bad, good, warn
from shipway_launcher.backends import make_backend
from shipway_launcher.carriers.table import Manager
from shipway_launcher.checkfolders import check_folders
from shipway_launcher.checkssh import check_ssh
from shipway_launcher.checksudo import check_sudo
from shipway_launcher.commandline import Programs
from shipway_launcher.config import LauncherSettings, is_loopback
from shipway_launcher.daemon import check_user
from shipway_launcher.errors import BackendError, LauncherError, SetupError, TransportError
from shipway_launcher.machines import open_machine
from shipway_launcher.pbs.cli import CommandLinePbs
from shipway_launcher.pbs.commands import PBS_PROGRAMS
from shipway_launcher.slurm.commands import SLURM_PROGRAMS
from shipway_launcher.slurm.pyslurm.backend import PyslurmSlurm
from shipway_launcher.tls import Certificate
from shipway_launcher.tokens import read_token
from shipway_launcher.users import Users


async def check(settings: LauncherSettings) -> AsyncIterator[Finding]:
    """Look at everything; nothing is changed, and no job is made."""
    for finding in await asyncio.to_thread(lambda: list(_check_here(settings))):
        yield finding
    try:
        async with open_machine(settings) as machine:
            users = Users(settings, machine)
            for part in (_check_who, check_ssh, _check_programs, check_sudo, _check_slurm):
                async for finding in part(settings, users):
                    yield finding
    except SetupError as error:
        yield bad("ssh", str(error))
    except TransportError as error:
        yield bad("ssh.host", str(error))


def _check_here(settings: LauncherSettings) -> Iterator[Finding]:
    yield from check_folders(settings)
    yield from _check_token(settings.token_file)
    yield from _check_group(settings)
    if not is_loopback(settings.host) and settings.tls.cert_file is None:
        yield warn(
            "host",
            f"{settings.host} is reached from outside, and the token goes unencrypted; set"
            " tls.cert_file and tls.key_file",
        )
    yield from _check_tls(settings)


async def _check_who(settings: LauncherSettings, users: Users) -> AsyncIterator[Finding]:
    try:
        check_user(settings, users.own.user)
    except SetupError as error:
        yield bad("user_name", str(error).removeprefix("user_name: "))


def _check_group(settings: LauncherSettings) -> Iterator[Finding]:
    if settings.group_name is not None:
        try:
            group = grp.getgrnam(settings.group_name)
        except KeyError:
            yield bad("group_name", f"there is no group {settings.group_name}")
            return
        if group.gr_gid not in {os.getegid(), *os.getgroups()}:
            yield warn("group_name", f"this user is not in the group {settings.group_name}")


def _check_token(path: Path) -> Iterator[Finding]:
    try:
        read_token(path)
    except FileNotFoundError:
        above = find_existing(path.parent)
        if os.access(above, os.W_OK | os.X_OK):
            yield good("auth_file", f"{path} will be made at the first start")
        else:
            yield bad("auth_file", f"{path} cannot be made: this user cannot write into {above}")
    except SetupError as error:
        yield bad("auth_file", str(error).removeprefix("auth_file: "))
    except OSError as error:
        yield bad("auth_file", str(error))
    else:
        yield good("auth_file", str(path))


def _check_tls(settings: LauncherSettings) -> Iterator[Finding]:
    if not settings.require_token:
        yield warn("require_token", "whoever reaches the port can run jobs as anybody")
    yield from _check_certificate("tls", settings.tls.cert_file, settings.tls.key_file)
    relay = settings.relay
    listen = relay.listen_tls
    yield from _check_certificate("relay.listen_tls", listen.certificate_file, listen.key_file)
    yield from _check_authorities("relay.listen_tls.trust_file", listen.trust_file)
    yield from _check_authorities("relay.tls.certificate_file", relay.tls.certificate_file)
    if relay.enabled and not relay.is_loopback and listen.certificate_file is None:
        yield warn(
            "relay.host",
            f"{relay.host} is reached from outside, and the tokens of jobs go unencrypted; set"
            " relay.listen_tls.certificate_file and key_file",
        )


def _check_authorities(key: str, file: Path | None) -> Iterator[Finding]:
    try:
        if file is not None:
            ssl.create_default_context(cafile=file)
    except OSError as error:
        yield bad(key, f"{file}: {error}")


def _check_certificate(
    setting: str, cert_file: Path | None, key_file: Path | None
) -> Iterator[Finding]:
    if cert_file is None or key_file is None:
        return
    try:
        Certificate(cert_file, key_file, setting=setting).load()
    except SetupError as error:
        yield bad(setting, str(error).removeprefix(f"{setting}: "))
    else:
        yield good(setting, str(cert_file))


async def _check_programs(settings: LauncherSettings, users: Users) -> AsyncIterator[Finding]:
    machine = users.machine
    manager = settings.workload_manager
    programs = Programs(settings.bin_dir, users.path, machine.find_program)
    names = PBS_PROGRAMS if manager is Manager.PBS else (*SLURM_PROGRAMS, "srun")
    for name in names:
        found = await programs.find(name)
        if found is None:
            wanted = f"set path or {manager}.bin_dir"
            yield bad("path", f"there is no {name} on {machine.name}; {wanted}")
        else:
            yield good("path", found)
    agent = await machine.find_program(settings.agent_command[0], users.path)
    if agent is None:
        yield bad("agent_command", f"there is no program {settings.agent_command[0]}")
    else:
        yield good("agent_command", f"{agent} (must be there on the compute nodes as well)")


async def _check_slurm(settings: LauncherSettings, users: Users) -> AsyncIterator[Finding]:
    key, slurm = settings.workload_manager, make_backend(settings, users)
    try:
        facts = await slurm.facts()
    except LauncherError as error:
        yield bad(key, str(error))
        return
    release = facts.release or (f"Slurm {facts.version}" if facts.version else None)
    if release is None:
        command = "qstat" if key is Manager.PBS else "sbatch"
        yield bad(key, f"{command} --version says nothing that is understood")
    else:
        yield good(key, release)
    try:
        cluster = await slurm.cluster()
    except (BackendError, TransportError) as error:
        who = "PBS's server" if key is Manager.PBS else "Slurm's controller"
        yield bad(f"{key}.conf_file", f"no answer from {who}: {error}")
        return
    names = ", ".join(partition.name for partition in cluster.partitions) or "none"
    yield good(key, f"partitions {names}; {len(cluster.nodes)} nodes")
    if isinstance(slurm, CommandLinePbs) and not await slurm.keeps_history():
        yield warn(
            key,
            "PBS keeps no history, so that of ended jobs no more is known than their scripts leave;"
            " set job_history_enable of the server",
        )
    if isinstance(slurm, PyslurmSlurm):
        async for finding in _check_pyslurm(slurm, settings):
            yield finding
    if (
        settings.relay.enabled
        and not settings.ssh.is_used
        and settings.relay.is_loopback
        and settings.relay.advertised_url is None
    ):
        addresses = {node.address for node in cluster.nodes}
        here = {"127.0.0.1", "localhost", socket.gethostname()}
        if addresses - here:
            yield warn("relay.host", f"{settings.relay.host} cannot be reached from other nodes")


async def _check_pyslurm(slurm: PyslurmSlurm, settings: LauncherSettings) -> AsyncIterator[Finding]:
    try:
        reason = await slurm.why_not()
    finally:
        await slurm.aclose()
    if reason is None:
        yield good("slurm.backend", f"pyslurm of {settings.slurm.pyslurm_python}")
    elif settings.slurm.backend == "pyslurm":
        yield warn("slurm.backend", f"jobs are submitted by sbatch, not through pyslurm: {reason}")
