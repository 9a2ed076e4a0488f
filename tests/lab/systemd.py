"""A real systemd as pid 1: in a container whose programs are the machine's own.

The image holds next to nothing. The machine's /usr, the Python that runs the tests and this
checkout are shown read-only at the places where they are outside, so the agent that runs in there
is the one that is tested, and nothing has to be downloaded.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.lab.docker import Docker
from tests.lab.processes import LabError, run, wait_until

INIT = Path("/usr/lib/systemd/systemd")
_IMAGE = "lab:systemd"
_REPOSITORY = Path(__file__).parents[2]
PREFIX = "/opt/shipway"
"""Where the units expect the programs; a link to the environment of the tests."""

_FOLDERS = """
dev etc etc/default etc/determined etc/systemd/system etc/sysusers.d etc/tmpfiles.d home mnt opt
proc root run srv sys tmp usr var/lib var/log/journal var/tmp
"""
_LINKS = {
    "bin": "usr/bin",
    "sbin": "usr/sbin",
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    PREFIX[1:]: sys.prefix,
    "var/run": "/run",
}
_FILES = {
    "etc/machine-id": "5a6b7c8d9e0f41528394a5b6c7d8e9f0\n",  # else all units would be enabled
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
    # The log lies in memory and is read at once; units that fail are tried again and again here.
    "etc/systemd/journald.conf": "[Journal]\nStorage=volatile\nRateLimitBurst=0\n",
}
_COPIED = ("/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ssl/openssl.cnf")


def missing() -> list[str]:
    """Return what is missing to run systemd in a container, besides Docker."""
    found: list[str] = []
    if not INIT.exists() or not shutil.which("systemctl"):
        found.append("systemd")
    if not Path("/bin").is_symlink():
        found.append("a system whose programs are all below /usr")
    return found


class Systemd:
    """systemd in a container, on the machine's own network; commands run beside it."""

    def __init__(self, docker: Docker) -> None:
        self._docker = docker
        self._name = f"systemd-{os.getpid()}"

    def __enter__(self) -> Systemd:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it with all that runs in it."""
        self._docker.run(["rm", "-f", "-v", self._name], check=False, limit_s=60)

    def run(
        self, *words: str, check: bool = True, limit_s: float = 60, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in there."""
        argv = ["docker", "exec", *(["-i"] if stdin is not None else []), self._name, *words]
        return run(
            argv, environment=self._docker.environment, check=check, limit_s=limit_s, stdin=stdin
        )

    def write(self, path: str, text: str, *, mode: str = "644") -> None:
        """Write a file in there, with its folders."""
        script = 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"'
        self.run("sh", "-c", script, "sh", path, mode, stdin=text)

    def ctl(self, *words: str, check: bool = True, limit_s: float = 60) -> str:
        """Run `systemctl WORDS`; returns what it prints."""
        return self.run("systemctl", *words, check=check, limit_s=limit_s).stdout.strip()

    def show(self, unit: str, *names: str) -> list[str]:
        """Return properties of a unit, in the order of *names*."""
        text = self.ctl("show", unit, *(f"--property={name}" for name in names))
        found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        return [found[name] for name in names]

    def journal(self, unit: str, *options: str) -> str:
        """Return what a unit wrote and what systemd says of it."""
        return self.run("journalctl", "--no-pager", "--unit", unit, *options).stdout

    def wait_until_active(self, unit: str, *, limit_s: float = 60) -> None:
        """Wait until a unit is started."""
        wait_until(
            lambda: self.show(unit, "ActiveState") == ["active"],
            f"{unit} is active",
            limit_s=limit_s,
            logs=lambda: self.journal(unit, "--lines=40"),
        )

    def _start(self) -> None:
        archive = self._docker.folder / "systemd.tar"
        archive.write_bytes(_image())
        self._docker.run(["import", str(archive), _IMAGE], limit_s=60)
        self._docker.run(
            [
                *("run", "--detach", "--name", self._name, "--network=host"),
                # systemd mounts, and makes units' namespaces. Not every machine's root may raise
                # limits, so not even --privileged could give that right.
                *("--cap-add=ALL", "--cap-drop=SYS_RESOURCE"),
                *("--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"),
                *("--tmpfs=/run", "--tmpfs=/run/lock", "--tmpfs=/tmp"),
                *_cgroup_options(),
                *(f"--volume={path}:{path}:ro" for path in shown_paths()),
                f"--volume={self._docker.folder}:{self._docker.folder}",
                *(_IMAGE, "/sbin/init"),
            ],
            limit_s=60,
        )
        wait_until(
            self._is_up,
            "systemd has started",
            limit_s=60,
            logs=lambda: self._docker.run(["logs", self._name], check=False).stdout,
        )

    def _is_up(self) -> bool:
        state = self.ctl("is-system-running", check=False)
        if state == "degraded":
            raise LabError(f"systemd started with failures: {self.ctl('--failed', '--no-legend')}")
        return state == "running"


def shown_paths() -> list[str]:
    """Return the folders of the machine that are shown in there, none of them within another."""
    wanted = {Path("/usr"), _REPOSITORY, Path(sys.prefix), Path(sys.base_prefix)}
    wanted |= {Path(path) for path in sys.path if os.path.isdir(path)}
    chosen: list[Path] = []
    for path in sorted(wanted):
        if not any(path.is_relative_to(other) for other in chosen):
            chosen.append(path)
    return [str(path) for path in chosen]


def _cgroup_options(root: Path = Path("/sys/fs/cgroup")) -> Sequence[str]:
    """Show the cgroups: all of version 2 must be writable, of version 1 systemd mounts its own."""
    if (root / "cgroup.controllers").exists():
        return (f"--volume={root}:{root}:rw", "--cgroupns=host")
    return (f"--volume={root}:{root}:ro",)


def _image() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in _FOLDERS.split():
            folder = tarfile.TarInfo(name)
            folder.type = tarfile.DIRTYPE
            folder.mode = 0o1777 if name.endswith("tmp") else 0o755
            archive.addfile(folder)
        for name, target in _LINKS.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
        for name, text in _FILES.items():
            file = tarfile.TarInfo(name)
            file.size = len(text)
            archive.addfile(file, io.BytesIO(text.encode()))
        for path in _COPIED:
            if Path(path).exists():
                archive.add(path, path[1:])
    return buffer.getvalue()
