"""Look for what is missing or unsafe before anybody finds out the hard way."""

from __future__ import annotations

import asyncio
import enum
import grp
import os
import re
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from shipway_launcher.backends import make_backend
from shipway_launcher.carriers.table import Manager
from shipway_launcher.config import Impersonation, LauncherSettings, is_loopback
from shipway_launcher.daemon import check_user
from shipway_launcher.errors import BackendError, LauncherError, SetupError, TransportError
from shipway_launcher.machines import open_machine
from shipway_launcher.pbs.commands import PBS_PROGRAMS
from shipway_launcher.slurm.cli import Programs
from shipway_launcher.slurm.commands import SLURM_PROGRAMS
from shipway_launcher.slurm.pyslurm.backend import PyslurmSlurm
from shipway_launcher.tls import Certificate
from shipway_launcher.tokens import read_token
from shipway_launcher.transport.base import Command
from shipway_launcher.users import Users

_LOCAL_FILE_SYSTEMS = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "f2fs"}
_TEST_S = 20.0


class Grade(enum.StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    grade: Grade
    key: str
    """The setting that it is about."""
    text: str


async def check(settings: LauncherSettings) -> AsyncIterator[Finding]:
    """Look at everything; nothing is changed, and no job is made."""
    for finding in await asyncio.to_thread(lambda: list(_check_here(settings))):
        yield finding
    try:
        async with open_machine(settings) as machine:
            users = Users(settings, machine)
            for part in (_check_who, _check_root, _check_programs, _check_slurm):
                async for finding in part(settings, users):
                    yield finding
    except SetupError as error:
        yield _bad("ssh", str(error))
    except TransportError as error:
        yield _bad("ssh.host", str(error))


def _check_here(settings: LauncherSettings) -> Iterator[Finding]:
    yield from _check_folder(settings)
    yield from _check_token(settings.token_file)
    yield from _check_group(settings)
    if not is_loopback(settings.host) and settings.tls.cert_file is None:
        yield _warn(
            "host",
            f"{settings.host} is reached from outside, and the token goes unencrypted; set"
            " tls.cert_file and tls.key_file",
        )
    yield from _check_tls(settings)


async def _check_who(settings: LauncherSettings, users: Users) -> AsyncIterator[Finding]:
    try:
        check_user(settings, users.own.user)
    except SetupError as error:
        yield _bad("user_name", str(error).removeprefix("user_name: "))
    if settings.ssh.is_used:
        login = await users.machine.login()
        yield _good("ssh.host", f"{login.account.user} logs in on {users.machine.name}")


def _check_group(settings: LauncherSettings) -> Iterator[Finding]:
    if settings.group_name is not None:
        try:
            group = grp.getgrnam(settings.group_name)
        except KeyError:
            yield _bad("group_name", f"there is no group {settings.group_name}")
            return
        if group.gr_gid not in {os.getegid(), *os.getgroups()}:
            yield _warn("group_name", f"this user is not in the group {settings.group_name}")


async def _check_root(settings: LauncherSettings, users: Users) -> AsyncIterator[Finding]:
    """Look at the folder for jobs where it is on another machine."""
    if not settings.ssh.is_used:
        return
    key, root = "job_storage_root", str(settings.job_storage_root)

    async def is_so(flag: str) -> bool:
        asked = Command(argv=("test", flag, root), timeout_s=_TEST_S)
        return (await users.own.run(asked)).exit_status == 0

    if not await is_so("-e"):
        yield _good(key, f"{root} will be made on {users.machine.name} at the first start")
    elif not await is_so("-O") or not await is_so("-w"):
        yield _bad(key, f"{root} on {users.machine.name} does not belong to {users.own.user}")
    else:
        yield _good(key, f"{root} on {users.machine.name}")


def _check_folder(settings: LauncherSettings) -> Iterator[Finding]:
    root = settings.records_dir
    is_for_jobs = root == settings.job_storage_root and not settings.ssh.is_used
    key = "job_storage_root" if is_for_jobs else "state_dir"
    above = next(folder for folder in (root, *root.parents) if folder.exists())
    if not os.access(above, os.W_OK | os.X_OK):
        yield _bad(key, f"this user cannot write into {above}")
        return
    if root.exists():
        status = root.stat()
        if status.st_uid != os.geteuid():
            yield _bad(key, f"{root} does not belong to this user")
        if stat.S_IMODE(status.st_mode) & 0o022:
            yield _bad(key, f"others may write into {root}; chmod go-w {root}")
    kind = _file_system(above)
    if is_for_jobs and kind in _LOCAL_FILE_SYSTEMS:
        yield _warn(
            key, f"{root} is on {kind}; fine only if all compute nodes see this very folder"
        )
    else:
        yield _good(key, f"{root} ({kind})")


def _check_token(path: Path) -> Iterator[Finding]:
    try:
        read_token(path)
    except FileNotFoundError:
        yield _good("auth_file", f"{path} will be made at the first start")
    except SetupError as error:
        yield _bad("auth_file", str(error).removeprefix("auth_file: "))
    except OSError as error:
        yield _bad("auth_file", str(error))
    else:
        yield _good("auth_file", str(path))


def _check_tls(settings: LauncherSettings) -> Iterator[Finding]:
    if not settings.require_token:
        yield _warn("require_token", "whoever reaches the port can run jobs as anybody")
    yield from _check_certificate("tls", settings.tls.cert_file, settings.tls.key_file)
    relay = settings.relay
    listen = relay.listen_tls
    yield from _check_certificate("relay.listen_tls", listen.certificate_file, listen.key_file)
    yield from _check_authorities("relay.listen_tls.trust_file", listen.trust_file)
    yield from _check_authorities("relay.tls.certificate_file", relay.tls.certificate_file)
    if relay.enabled and not relay.is_loopback and listen.certificate_file is None:
        yield _warn(
            "relay.host",
            f"{relay.host} is reached from outside, and the tokens of jobs go unencrypted; set"
            " relay.listen_tls.certificate_file and key_file",
        )


def _check_authorities(key: str, file: Path | None) -> Iterator[Finding]:
    try:
        if file is not None:
            ssl.create_default_context(cafile=file)
    except OSError as error:
        yield _bad(key, f"{file}: {error}")


def _check_certificate(
    setting: str, cert_file: Path | None, key_file: Path | None
) -> Iterator[Finding]:
    if cert_file is None or key_file is None:
        return
    try:
        Certificate(cert_file, key_file, setting=setting).load()
    except SetupError as error:
        yield _bad(setting, str(error).removeprefix(f"{setting}: "))
    else:
        yield _good(setting, str(cert_file))


async def _check_programs(settings: LauncherSettings, users: Users) -> AsyncIterator[Finding]:
    machine = users.machine
    manager = settings.workload_manager
    programs = Programs(settings.bin_dir, users.path, machine.find_program)
    names = PBS_PROGRAMS if manager is Manager.PBS else (*SLURM_PROGRAMS, "srun")
    for name in names:
        found = await programs.find(name)
        if found is None:
            wanted = f"set path or {manager}.bin_dir"
            yield _bad("path", f"there is no {name} on {machine.name}; {wanted}")
        else:
            yield _good("path", found)
    agent = await machine.find_program(settings.agent_command[0], users.path)
    if agent is None:
        yield _bad("agent_command", f"there is no program {settings.agent_command[0]}")
    else:
        yield _good("agent_command", f"{agent} (must be there on the compute nodes as well)")
    is_acting = settings.impersonation is Impersonation.SUDO
    if is_acting and await machine.find_program("sudo", users.path) is None:
        yield _bad("impersonation", f"there is no sudo on {machine.name}")


async def _check_slurm(settings: LauncherSettings, users: Users) -> AsyncIterator[Finding]:
    key, slurm = settings.workload_manager, make_backend(settings, users)
    try:
        facts = await slurm.facts()
    except LauncherError as error:
        yield _bad(key, str(error))
        return
    release = facts.release or (f"Slurm {facts.version}" if facts.version else None)
    if release is None:
        command = "qstat" if key is Manager.PBS else "sbatch"
        yield _bad(key, f"{command} --version says nothing that is understood")
    else:
        yield _good(key, release)
    try:
        cluster = await slurm.cluster()
    except (BackendError, TransportError) as error:
        who = "PBS's server" if key is Manager.PBS else "Slurm's controller"
        yield _bad(f"{key}.conf_file", f"no answer from {who}: {error}")
        return
    names = ", ".join(partition.name for partition in cluster.partitions) or "none"
    yield _good(key, f"partitions {names}; {len(cluster.nodes)} nodes")
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
            yield _warn("relay.host", f"{settings.relay.host} cannot be reached from other nodes")


def _file_system(path: Path) -> str:
    """Return the kind of the file system that *path* is on."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, name, *_ = line.split(" ")
        point = re.sub(r"\\(\d{3})", lambda match: chr(int(match.group(1), 8)), mount)
        is_above = path.resolve().is_relative_to(point)
        if is_above and len(point) >= len(best):
            best, kind = point, name
    return kind


def _good(key: str, text: str) -> Finding:
    return Finding(grade=Grade.OK, key=key, text=text)


def _warn(key: str, text: str) -> Finding:
    return Finding(grade=Grade.WARNING, key=key, text=text)


def _bad(key: str, text: str) -> Finding:
    return Finding(grade=Grade.ERROR, key=key, text=text)


async def _check_pyslurm(slurm: PyslurmSlurm, settings: LauncherSettings) -> AsyncIterator[Finding]:
    try:
        reason = await slurm.why_not()
    finally:
        await slurm.aclose()
    if reason is None:
        yield _good("slurm.backend", f"pyslurm of {settings.slurm.pyslurm_python}")
    elif settings.slurm.backend == "pyslurm":
        yield _warn("slurm.backend", f"jobs are submitted by sbatch, not through pyslurm: {reason}")
