"""The Debian (or Ubuntu) packages that the real services of the tests come from."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# Program → package. What is there already, from wherever, is left alone.
_PROGRAMS = {
    "munged": "munge",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "srun": "slurm-client",
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server",  # which slurmdbd keeps its accounts in
    "dockerd": "docker.io",
    "docker": "docker-cli",
    "podman": "podman",
    "conmon": "conmon",
    "runc": "runc",
    "crun": "crun",
    "catatonit": "catatonit",
    "newuidmap": "uidmap",
    "slirp4netns": "slirp4netns",
    "openssl": "openssl",
    "bwrap": "bubblewrap",
    "ip": "iproute2",
    "iptables": "iptables",
    "nft": "nftables",  # newer podman sets its network up with it
    "debootstrap": "debootstrap",
    "sudo": "sudo",
    "systemctl": "systemd",  # as pid 1 of a container
    "dbus-daemon": "dbus",  # which systemd's own services want
    "pkill": "procps",
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "pg_ctlcluster": "postgresql",
    "gcc": "gcc",  # makes the stand-in for NVIDIA's library
}
_FOLDERS = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin:/usr/libexec/podman"
_POLICY = Path("/usr/sbin/policy-rc.d")


def missing_packages() -> list[str]:
    """Return the packages whose programs this machine lacks."""
    missing = [
        package
        for program, package in _PROGRAMS.items()
        if not shutil.which(program, path=_FOLDERS)
    ]
    # The image of the tests is busybox alone, so it must need no library.
    if not _is_static(Path("/bin/busybox")):
        missing.append("busybox-static")
    if not list(Path("/usr/lib").glob("*/slurm*/accounting_storage_mysql.so")):
        missing.append("slurm-wlm-mysql-plugin")
    if not Path("/usr/include/stdio.h").exists():
        missing.append("libc6-dev")
    if not any(Path(name).exists() for name in ("/usr/lib/cni/bridge", "/usr/lib/podman/netavark")):
        missing.append("containernetworking-plugins|netavark")
    return missing


def install(packages: Sequence[str]) -> list[str]:
    """Install *packages* with apt, as root, and start none of their services.

    Returns:
        The packages of which this release of the system has none.

    Raises:
        subprocess.CalledProcessError: apt failed; its output is on the screen.
    """
    _apt("update", "-qq")
    wanted: list[str] = []
    unknown: list[str] = []
    for package in packages:
        choice = next((name for name in _choices(package) if _has_candidate(name)), None)
        if choice is not None:
            wanted.append(choice)
        elif package != "docker-cli":  # a part of docker.io where it is no package of its own
            unknown.append(package)
    with _no_services():
        _apt("install", "-qq", "-y", "--no-install-recommends", *wanted)
    return unknown


def _choices(package: str) -> list[str]:
    names = package.split("|")
    if "netavark" in names and _podman_version() >= (4, 4):
        names.reverse()  # podman's network program from then on; earlier it was the CNI plugins
    return names


def _podman_version() -> tuple[int, ...]:
    text = _apt_cache("policy", "podman").partition("Candidate:")[2].split()
    numbers = text[0].split(":")[-1].split(".")[:2] if text else []
    return tuple(int(number) for number in numbers if number.isdigit())


def _has_candidate(package: str) -> bool:
    lines = _apt_cache("policy", package)
    return "Candidate:" in lines and "Candidate: (none)" not in lines


def _apt_cache(*arguments: str) -> str:
    done = subprocess.run(
        ["apt-cache", *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    return done.stdout


def _apt(*arguments: str) -> None:
    subprocess.run(
        [
            "apt-get",
            "-o",
            "DPkg::Lock::Timeout=300",
            "-o",
            "Dpkg::Use-Pty=0",
            "-o",
            "Acquire::Retries=3",
            *arguments,
        ],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        check=True,
    )


@contextmanager
def _no_services() -> Iterator[None]:
    """Tell Debian's service scripts to start nothing; a policy that is there already stays."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def _is_static(program: Path) -> bool:
    return program.exists() and b"/ld-linux" not in program.read_bytes()
