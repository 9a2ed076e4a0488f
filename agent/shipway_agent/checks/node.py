"""What the machine must give: a place for the agent's state, and what tasks without Docker need."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from shipway_agent.checks.finding import Finding, error, ok, warning
from shipway_agent.config import AgentSettings
from shipway_agent.statelock import find_owner
from shipway_common.files import find_existing

_FREE_BYTES = 1 << 30
_FREE_INODES = 10_000
_REMOTE = {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "ceph", "fuse.sshfs", "afs", "9p"}
_FORGETFUL = {"tmpfs", "ramfs"}


def check_state_dir(settings: AgentSettings, place: str) -> list[Finding]:
    """Look at the state folder without making it; blocking."""
    assert settings.state_dir is not None
    key, folder = f"{place}: state_dir", settings.state_dir
    try:
        existing = find_existing(folder)
        owner = find_owner(folder)
    except OSError as problem:
        return [error(key, f"{folder} cannot be used: {problem}")]
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return [error(key, f"{folder} cannot be used: {existing} is no folder we may write to")]
    findings = [_check_mode(existing, folder, key)]
    if owner is not None:
        findings.append(ok(key, f"in use by the shipway-agent with process id {owner}"))
    return [*findings, *_check_space(existing, folder, key), *_check_kind(existing, folder, key)]


def check_namespaces(settings: AgentSettings, place: str) -> list[Finding]:
    """Say what keeps users from making containers, where the agent is not root; blocking."""
    if os.geteuid() == 0:
        return []
    key = f"{place}: container_runtime"
    findings: list[Finding] = []
    for name, refusing, remedy in [
        ("user/max_user_namespaces", "0", "allow some"),
        ("kernel/unprivileged_userns_clone", "0", "set it to 1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "set it to 0, or add a profile"),
    ]:
        value = _read(Path("/proc/sys") / name)
        if value == refusing:
            setting = name.replace("/", ".", 1)
            text = f"sysctl {setting} = {value} keeps users from making namespaces; {remedy}"
            findings.append(warning(key, text))
    user = pwd.getpwuid(os.geteuid())
    for name in ("subuid", "subgid"):
        owners = {line.split(":")[0] for line in _read(Path("/etc") / name).splitlines()}
        if not owners & {user.pw_name, str(user.pw_uid)}:
            text = f"/etc/{name} has no range for {user.pw_name}: images with several users do not"
            findings.append(warning(key, f"{text} unpack in Podman or Apptainer"))
    return findings


def check_cgroups(place: str, root: Path = Path("/sys/fs/cgroup")) -> Finding:
    """Say which cgroups there are: by them tasks are limited, measured and told to lack memory."""
    key = f"{place}: container_runtime"
    if (root / "cgroup.controllers").exists():
        controllers = _read(root / "cgroup.controllers").split()
        missing = [name for name in ("cpu", "memory") if name not in controllers]
        text = "cgroups of version 2"
        return warning(key, f"{text} without {', '.join(missing)}") if missing else ok(key, text)
    if (root / "memory").is_dir():
        return ok(key, "cgroups of version 1")
    return warning(key, f"no cgroups at {root}: tasks are measured by their processes alone")


def _check_mode(existing: Path, folder: Path, key: str) -> Finding:
    if existing != folder:
        return ok(key, f"{folder} will be made")
    if folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return warning(key, f"others may write {folder}; chmod go-w")
    return ok(key, f"{folder} can be written")


def _check_space(existing: Path, folder: Path, key: str) -> list[Finding]:
    space = os.statvfs(existing)
    free_bytes = space.f_bavail * space.f_frsize
    if free_bytes < _FREE_BYTES:
        text = f"only {free_bytes >> 20} MiB are free at {folder}, where output of tasks is kept"
        return [warning(key, text)]
    if space.f_files > 0 and space.f_favail < _FREE_INODES:
        return [warning(key, f"only {space.f_favail} more files fit at {folder}")]
    return []


def _check_kind(existing: Path, folder: Path, key: str) -> list[Finding]:
    kind = _file_system(existing)
    if kind in _REMOTE:
        return [warning(key, f"{folder} is on {kind}, which may hang; use a local disk")]
    if kind in _FORGETFUL:
        text = f"{folder} is on {kind}: after a restart of the machine nobody knows how tasks ended"
        return [warning(key, text)]
    return []


def _file_system(path: Path) -> str:
    """Return the kind of the file system at *path*, from the mount that was made last."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    kinds = [
        line.partition(" - ")[2].split()[0]
        for line in _read(Path("/proc/self/mountinfo")).splitlines()
        if line.split()[2] == wanted
    ]
    return kinds[-1] if kinds else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
