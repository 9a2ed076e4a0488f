"""A real sshd on loopback, with keys, known hosts and settings of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.lab.folders import remove_folder
from tests.lab.processes import LabError, end, free_ports, is_alive, run, tails, wait_until

_SEARCH = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin"


def missing_programs() -> list[str]:
    """Return what an sshd of one's own needs and this machine lacks."""
    return [name for name in ("sshd", "ssh-keygen") if not shutil.which(name, path=_SEARCH)]


class Sshd:
    """One sshd; whoever has its client key logs in as the user who runs the tests."""

    def __init__(self, folder: Path, options: Mapping[str, str] | None = None) -> None:
        """Prepare; *options* are more lines of sshd_config, such as MaxSessions."""
        self.folder = folder
        self.user = getpass.getuser()
        self.client_key = folder / "client_key"
        self.known_hosts = folder / "known_hosts"
        (self.port,) = free_ports(1)
        self._options = dict(options or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0

    @property
    def settings(self) -> dict[str, Any]:
        """The launcher's `ssh:` settings for this sshd."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "config_files": [],
            "identity_file": str(self.client_key),
            "known_hosts_file": str(self.known_hosts),
        }

    @property
    def log(self) -> str:
        """The tail of what it has logged."""
        return tails([self.folder / "sshd.log"], lines=40)

    def __enter__(self) -> Sshd:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        remove_folder(self.folder)

    def start(self, *, is_host_key_new: bool = False) -> None:
        """Start it, with the host key of before unless a new one is wanted."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._make_keys(is_host_key_new=is_host_key_new)
        lines = {
            "Port": str(self.port),
            "ListenAddress": "127.0.0.1",
            "HostKey": str(self.folder / "host_key"),
            "PidFile": str(self.folder / "sshd.pid"),
            "AuthorizedKeysFile": str(self.folder / "authorized_keys"),
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            **self._options,
        }
        config = self.folder / "sshd_config"
        config.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        program = shutil.which("sshd", path=_SEARCH)
        if program is None:
            raise LabError("sshd is not installed")
        self._starts = self._count_starts()
        # Not in our process group, and not a daemon of its own: so it is ours to end.
        self._process = subprocess.Popen(
            [program, "-D", "-f", str(config), "-E", str(self.folder / "sshd.log")],
            start_new_session=True,
        )
        wait_until(self._listens, "sshd listens", limit_s=60, logs=lambda: self.log)

    def stop(self) -> None:
        """End it with its sessions."""
        sessions = self.sessions()
        if self._process is not None:
            end([self._process.pid])
            self._process.wait()
            self._process = None
        end(pid for pid in sessions if is_alive(pid))

    def let_in(self, key: Path) -> None:
        """Accept one more key."""
        with (self.folder / "authorized_keys").open("a") as file:
            file.write(Path(f"{key}.pub").read_text())

    def sessions(self) -> list[int]:
        """Return the processes that serve the connections there are."""
        return [] if self._process is None else _descendants(self._process.pid, "sshd")

    def cut(self) -> None:
        """Kill what serves the connections; new ones can be made."""
        _signal(self.sessions(), signal.SIGKILL)

    def freeze(self, *, with_listener: bool = False) -> None:
        """Stop what serves the connections, so that they look alive; then nothing comes through."""
        _signal(self.sessions(), signal.SIGSTOP)
        if with_listener and self._process is not None:
            os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`."""
        if self._process is not None:
            _signal((self._process.pid, *self.sessions()), signal.SIGCONT)

    def _make_keys(self, *, is_host_key_new: bool) -> None:
        host_key = self.folder / "host_key"
        if is_host_key_new:
            host_key.unlink(missing_ok=True)
        for path in (host_key, self.client_key):
            if not path.exists():
                run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], stdin="y\n")
        if not self.known_hosts.exists():
            public = " ".join(Path(f"{host_key}.pub").read_text().split()[:2])
            self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {public}\n")
        shutil.copy(f"{self.client_key}.pub", self.folder / "authorized_keys")

    def _listens(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise LabError(f"sshd exited {self._process.returncode}\n{self.log}")
        return self._count_starts() > self._starts

    def _count_starts(self) -> int:
        log = self.folder / "sshd.log"
        return log.read_text().count("Server listening") if log.exists() else 0


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to those that are still there: one may end with another."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _descendants(pid: int, name: str) -> list[int]:
    """Return the processes called *name* below *pid*."""
    parents: dict[int, tuple[int, str]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "stat").read_text()
        except OSError:  # ended meanwhile
            continue
        head, _, tail = text.rpartition(")")
        parents[int(folder.name)] = (int(tail.split()[1]), head.partition("(")[2])
    found = [pid]
    for one in found:
        found += [child for child, (parent, _) in parents.items() if parent == one]
    return [one for one in found[1:] if parents[one][1].startswith(name)]
