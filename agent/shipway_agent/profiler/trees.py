"""Processes by whose tree they belong to, found in one look at all of them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping

from shipway_agent.profiler.files import entry_of, read_file
from shipway_agent.profiler.quantities import Quantity
from shipway_agent.runtimes.processes import ProcessStat, find_process

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ProcessTrees:
    """Looks for the processes below some roots. Blocking; one thread at a time.

    A process gets into a tree only by being born there: who is orphaned goes to the nearest
    process above that asked for orphans, or to init. So those that were seen outside all trees are
    not read again; their inode in /proc tells them from later ones of the same pid.
    """

    def __init__(self) -> None:
        self._roots: frozenset[int] = frozenset()
        self._strangers: dict[int, int] = {}

    def find(self, roots: Collection[int]) -> Mapping[int, list[ProcessStat]]:
        """Return the processes below each of *roots*; the roots themselves are not in it."""
        if not roots:
            self._strangers.clear()
            self._roots = frozenset()
            return {}
        if not self._roots.issuperset(roots):
            self._strangers.clear()  # there may be members of the new trees among them
        self._roots = frozenset(roots)
        strangers: dict[int, int] = {}
        seen: dict[int, tuple[int, ProcessStat]] = {}
        with os.scandir("/proc") as entries:
            for entry in entries:
                if not entry.name.isdigit():
                    continue
                pid, inode = int(entry.name), entry.inode()
                if self._strangers.get(pid) == inode:
                    strangers[pid] = inode
                    continue
                try:
                    stat = find_process(pid)
                except PermissionError:  # where /proc is mounted so, others are hidden from us
                    strangers[pid] = inode
                    continue
                if stat is not None:
                    seen[pid] = inode, stat
        self._strangers = strangers
        return self._sort(seen)

    def _sort(self, seen: Mapping[int, tuple[int, ProcessStat]]) -> dict[int, list[ProcessStat]]:
        trees: dict[int, list[ProcessStat]] = {root: [] for root in self._roots}
        for pid, (inode, stat) in seen.items():
            root = self._root_above(stat, seen)
            if root is not None:
                trees[root].append(stat)
            elif pid not in trees:
                self._strangers[pid] = inode
        return trees

    def _root_above(
        self, stat: ProcessStat, seen: Mapping[int, tuple[int, ProcessStat]]
    ) -> int | None:
        """Find whose tree a process is in; a pid that changed hands meanwhile may make a circle."""
        for _ in range(len(seen)):
            if stat.parent in self._roots:
                return stat.parent
            if stat.parent not in seen:
                return None
            stat = seen[stat.parent][1]
        return None


def sum_cpu(processes: Collection[ProcessStat], ended_ticks: int) -> dict[Quantity, float]:
    """Add up how long processes and all that ended below them ran.

    Args:
        processes: Those that live.
        ended_ticks: The time of those that ended and were orphans, as their holder got it.
    """
    ticks = ended_ticks + sum(stat.own_ticks + stat.ended_ticks for stat in processes)
    return {Quantity.CPU_SECONDS: ticks / _TICKS_PER_S}


def sum_memory(processes: Collection[ProcessStat]) -> dict[Quantity, float]:
    """Add up resident memory: what processes share counts once for each of them.

    The proportional share would be fairer, but the kernel walks all of a process's pages for it.
    """
    return {Quantity.MEMORY_USED: sum(stat.resident_pages for stat in processes) * _PAGE_BYTES}


def sum_disk(pids: Iterable[int]) -> dict[Quantity, float]:
    """Add up what processes, and those that ended below them, read from and wrote to disks.

    Nothing is told unless all of them may be asked.
    """
    read = written = 0
    for pid in pids:
        try:
            data = b"\n" + read_file(f"/proc/{pid}/io")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        except OSError:
            return {}
        read += entry_of(data, b"read_bytes") or 0
        written += entry_of(data, b"write_bytes") or 0
    return {Quantity.DISK_READ_BYTES: read, Quantity.DISK_WRITTEN_BYTES: written}


def started_at(stat: ProcessStat) -> float:
    """Return when a process began, in seconds since 1970; 0 if the kernel does not tell."""
    booted_at = entry_of(b"\n" + read_file("/proc/stat"), b"btime")
    return 0.0 if booted_at is None else booted_at + stat.start_ticks / _TICKS_PER_S
