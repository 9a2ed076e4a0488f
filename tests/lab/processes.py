"""Start, watch and end the processes of a private service."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path


class LabError(Exception):
    """A service of the lab did not do what it was started for; the text holds its logs' tails."""


_FIRST_PORT, _PART, _PARTS = 13000, 2000, 8
_tries = itertools.count(random.SystemRandom().randrange(_PART))


def free_ports(count: int) -> list[int]:
    """Return *count* different ports of 127.0.0.1 that nobody listens on at this moment.

    They lie below those that the kernel gives to connections, and each process of tests has a part of
    its own: what is free now is still free when a daemon has started.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = _FIRST_PORT + worker % _PARTS * _PART
    found: list[int] = []
    while len(found) < count:
        port = first + next(_tries) % _PART
        with contextlib.suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", port))
            found.append(port)
    return found


def run(
    argv: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    limit_s: float = 60,
    check: bool = True,
    folder: Path | None = None,
    stdin: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its text keeps undecodable bytes as surrogates.

    Args:
        argv: The command.
        environment: Added to this process's own.
        limit_s: After so many seconds the command is killed and `LabError` raised.
        check: Whether an exit status other than 0 raises `LabError`.
        folder: Working folder.
        stdin: What the command reads; nothing when left out.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            env={**os.environ, **(environment or {})},
            cwd=folder,
            input="" if stdin is None else stdin,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(
            f"{words} did not end in {limit_s} s; stdout: {error.stdout!r} stderr: {error.stderr!r}"
        ) from error
    if check and done.returncode != 0:
        raise LabError(
            f"{words} exited {done.returncode}; stdout: {done.stdout} stderr: {done.stderr}"
        )
    return done


def wait_until(
    is_true: Callable[[], object],
    what: str,
    *,
    limit_s: float,
    logs: Callable[[], str] = lambda: "",
    interval_s: float = 0.05,
) -> None:
    """Ask again and again until *is_true* is so.

    Raises:
        LabError: *what* did not come true in *limit_s* seconds; with the text that *logs* gives.
    """
    deadline = time.monotonic() + limit_s
    while not is_true():
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {limit_s} s\n{logs()}")
        time.sleep(interval_s)


def tails(paths: Iterable[Path], *, lines: int = 20) -> str:
    """Return the last lines of each file, under its name, for an error message."""
    parts: list[str] = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            text = path.read_text(errors="replace").splitlines()[-lines:]
            parts.append("\n".join([f"--- {path}", *text]))
    return "\n".join(parts)


def is_alive(pid: int) -> bool:
    """Say whether *pid* runs; a zombie does not, whoever has yet to reap it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def end(pids: Iterable[int], *, grace_s: float = 4) -> None:
    """End the processes with TERM, and with KILL those that are there after *grace_s* seconds."""
    left = list(pids)
    for number, limit_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 30.0)):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + limit_s
        while (left := [pid for pid in left if is_alive(pid)]) and time.monotonic() < deadline:
            time.sleep(0.02)
    if left:
        raise LabError(f"processes {left} outlived SIGKILL")


def pid_in(path: Path) -> int | None:
    """Return the pid that a daemon wrote into *path*, or None as long as there is none."""
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        return None
    return int(text) if text else None
