"""Processes of this host: who they are, who their children are, and how to signal just them."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStat:
    """What /proc/PID/stat says about a process."""

    pid: int
    parent: int
    session: int
    state: str
    start_ticks: int
    """When it started, in clock ticks since boot; with the pid this is its identity."""
    own_ticks: int
    """How long its threads ran, in clock ticks."""
    ended_ticks: int
    """How long children that it has reaped ran, and theirs."""
    resident_pages: int
    """Its memory, with what it shares with others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """One process, not to be confused with a later one of the same pid."""

    pid: int
    start_ticks: int
    boot_id: str

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        if self.boot_id != boot_id():
            return False
        stat = find_process(self.pid)
        return stat is not None and stat.start_ticks == self.start_ticks and stat.state not in "ZX"

    def send(self, number: int) -> bool:
        """Send a signal; False if the process is gone.

        Raises:
            PermissionError: It belongs to somebody else.
        """
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                return _is_gone(error)
            descriptor = None  # kernels before 5.3: a moment remains in which the pid may change
        try:
            if not self.is_alive:
                return False
            if descriptor is None:
                os.kill(self.pid, number)
            else:
                signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            if descriptor is not None:
                os.close(descriptor)
        return True


def identify(pid: int) -> ProcessIdentity | None:
    """Return the identity of the process that has *pid* now."""
    stat = find_process(pid)
    if stat is None:
        return None
    return ProcessIdentity(pid=pid, start_ticks=stat.start_ticks, boot_id=boot_id())


def boot_id() -> str:
    """Return the name of this run of the kernel; pids mean nothing beyond it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def find_process(pid: int) -> ProcessStat | None:
    """Read what the kernel says about *pid*; None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in brackets, which may itself hold any of ") (".
    fields = text[text.rindex(b")") + 2 :].split()
    return ProcessStat(
        pid=pid,
        parent=int(fields[1]),
        session=int(fields[3]),
        state=fields[0].decode("ascii"),
        start_ticks=int(fields[19]),
        own_ticks=int(fields[11]) + int(fields[12]),
        ended_ticks=int(fields[13]) + int(fields[14]),
        resident_pages=int(fields[21]),
    )


def all_processes() -> Iterator[ProcessStat]:
    """Yield every process that this one can see."""
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := find_process(int(name))) is not None:
            yield stat


def descendants(pid: int) -> list[ProcessStat]:
    """Return the children of *pid* and theirs, parents before children, zombies included."""
    children: defaultdict[int, list[ProcessStat]] = defaultdict(list)
    for stat in all_processes():
        children[stat.parent].append(stat)
    found: list[ProcessStat] = []
    waiting = [pid]
    while waiting:
        below = children.pop(waiting.pop(), [])
        found += below
        waiting += [child.pid for child in below]
    return found


def kill_all(processes: Iterable[ProcessStat]) -> None:
    """Send SIGKILL to each that still is the process it was, and that we may signal."""
    boot = boot_id()
    for stat in processes:
        identity = ProcessIdentity(pid=stat.pid, start_ticks=stat.start_ticks, boot_id=boot)
        with contextlib.suppress(PermissionError):
            identity.send(signal.SIGKILL)


def _is_gone(error: OSError) -> bool:
    """Return False ("not sent") for an absent process; raise anything else."""
    if error.errno == errno.ESRCH:
        return False
    raise error
