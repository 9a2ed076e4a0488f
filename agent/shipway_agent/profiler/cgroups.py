"""Control groups of both versions: where a process is in them, and what they count and allow."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from shipway_agent.profiler.files import find_entry, find_number, read_file
from shipway_agent.profiler.quantities import Quantity

Kind = Literal["cpu", "cpuacct", "memory", "blkio"]

_kinds: tuple[Kind, ...] = ("cpu", "cpuacct", "memory", "blkio")
_NO_LIMIT_BYTES = 1 << 60
"""Version 1 has no word for "none", only the largest number of pages there can be."""


class Folder(NamedTuple):
    """One control group in one hierarchy."""

    path: str
    top: str
    """Where the hierarchy is mounted; limits beyond it are not seen from here."""
    version: Literal[1, 2]


Places = Mapping[Kind, Folder]
"""One control group in all hierarchies that count or limit something."""


class _Mount(NamedTuple):
    point: str
    root: str
    """Which group of the hierarchy is seen at *point*."""
    version: Literal[1, 2]
    kinds: frozenset[str]


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """The hierarchies that are mounted here."""

    mounts: tuple[_Mount, ...]

    @classmethod
    def read(cls, mountinfo: str = "/proc/self/mountinfo") -> Hierarchies:
        """Find them.

        Raises:
            OSError: The kernel does not tell.
        """
        text = os.fsdecode(read_file(mountinfo))
        mounts = [mount for line in text.splitlines() if (mount := _parse_mount(line))]
        # A controller that a hierarchy of version 1 has, the one of version 2 has not.
        return cls(tuple(sorted(mounts, key=lambda mount: mount.version)))

    def locate(self, cgroup_text: bytes) -> Places:
        """Find the folders of a process's groups.

        Args:
            cgroup_text: What /proc/PID/cgroup says.
        """
        paths = _parse_paths(os.fsdecode(cgroup_text))
        places: dict[Kind, Folder] = {}
        for kind in _kinds:
            for mount in self.mounts:
                path = paths.get(kind if mount.version == 1 else "")
                if kind in places or kind not in mount.kinds or path is None:
                    continue
                folder = _find_below(mount, path)
                if folder is not None and os.path.isdir(folder):
                    places[kind] = Folder(folder, mount.point, mount.version)
        return places


def own_places(places: Places, native_id: str) -> Places:
    """Keep the groups of one container alone: those that have its id in their path.

    A process may be further down, where a container has groups of its own making.
    """
    found: dict[Kind, Folder] = {}
    for kind, folder in places.items():
        names = os.path.relpath(folder.path, folder.top).split(os.sep)
        depth = next((at for at, name in enumerate(names, 1) if native_id in name), 0)
        if native_id and depth:
            found[kind] = folder._replace(path=os.path.join(folder.top, *names[:depth]))
    return found


def read_cpu(places: Places) -> dict[Quantity, float]:
    """Read how long a group's processes ran, those that ended included."""
    if (folder := places.get("cpuacct")) is None:
        return {}
    if folder.version == 1:
        used_ns = find_number(f"{folder.path}/cpuacct.usage")
        return {} if used_ns is None else {Quantity.CPU_SECONDS: used_ns / 1e9}
    used_us = find_entry(f"{folder.path}/cpu.stat", b"usage_usec")
    return {} if used_us is None else {Quantity.CPU_SECONDS: used_us / 1e6}


def read_memory(folder: Folder) -> dict[Quantity, float]:
    """Read how much memory a group holds, and how much of it is not cache that can go at once."""
    name, cache = (
        ("memory.usage_in_bytes", b"total_inactive_file")
        if folder.version == 1
        else ("memory.current", b"inactive_file")
    )
    used = find_number(f"{folder.path}/{name}")
    if used is None:
        return {}
    numbers: dict[Quantity, float] = {Quantity.MEMORY_USED: used}
    idle_cache = find_entry(f"{folder.path}/memory.stat", cache)
    if idle_cache is not None:
        numbers[Quantity.MEMORY_WORKING_SET] = max(0, used - idle_cache)
    return numbers


def read_disk(places: Places) -> dict[Quantity, float]:
    """Read what a group read from and wrote to disks.

    In version 1 the kernel does not count what it writes out later for a group, and from Linux 6.10
    on nothing at all unless the group's disks are throttled: no line of a device means not told.
    """
    if (folder := places.get("blkio")) is None:
        return {}
    if folder.version == 2:
        return _read_io_stat(f"{folder.path}/io.stat")
    numbers: dict[Quantity, float] = {}
    for name, read, written in (
        ("io_service_bytes", Quantity.DISK_READ_BYTES, Quantity.DISK_WRITTEN_BYTES),
        ("io_serviced", Quantity.DISK_READS, Quantity.DISK_WRITES),
    ):
        try:
            data = read_file(f"{folder.path}/blkio.throttle.{name}_recursive")
        except OSError:
            continue
        if b"Read" in data:
            numbers |= {read: _sum(data, b"Read"), written: _sum(data, b"Write")}
    return numbers


def find_members(places: Places) -> list[int] | None:
    """List the processes of a group of version 1; None: it is none, or it does not tell."""
    if (folder := places.get("memory")) is None or folder.version == 2:
        return None
    try:
        return [int(word) for word in read_file(f"{folder.path}/cgroup.procs").split()]
    except OSError:
        return None


class MemoryLimit(NamedTuple):
    """A group, our own or one above it, that limits memory."""

    folder: Folder
    limit_bytes: int


def memory_limits(places: Places) -> list[MemoryLimit]:
    """Find all limits that a group is under."""
    folder = places.get("memory")
    if folder is None:
        return []
    name = "memory.limit_in_bytes" if folder.version == 1 else "memory.max"
    found: list[MemoryLimit] = []
    for above in _upwards(folder):
        limit = find_number(f"{above.path}/{name}")  # version 2 says "max" for none
        if limit is not None and limit < _NO_LIMIT_BYTES:
            found.append(MemoryLimit(above, limit))
    return found


def cpu_limit(places: Places) -> float | None:
    """Find how many processors' time a group may use at most; None: no limit by a quota."""
    folder = places.get("cpu")
    if folder is None:
        return None
    quotas = [quota for above in _upwards(folder) if (quota := _quota(above)) is not None]
    return min(quotas, default=None)


def _quota(folder: Folder) -> float | None:
    if folder.version == 1:
        quota_us = find_number(f"{folder.path}/cpu.cfs_quota_us")  # -1 for none is no such number
        period_us = find_number(f"{folder.path}/cpu.cfs_period_us")
        return quota_us / period_us if quota_us is not None and period_us else None
    try:
        words = read_file(f"{folder.path}/cpu.max").split()
    except OSError:
        return None  # the top group has none, nor one whose parent does not hand the controller on
    if len(words) != 2 or not all(word.isdigit() for word in words) or int(words[1]) == 0:
        return None
    return int(words[0]) / int(words[1])


def _upwards(folder: Folder) -> Iterator[Folder]:
    path = folder.path
    while True:
        yield folder._replace(path=path)
        if path == folder.top or len(path) <= len(folder.top):
            return
        path = os.path.dirname(path)


def _read_io_stat(path: str) -> dict[Quantity, float]:
    try:
        data = read_file(path)
    except OSError:
        return {}
    sums = {b"rbytes": 0, b"wbytes": 0, b"rios": 0, b"wios": 0}
    for word in data.split():
        name, _, value = word.partition(b"=")
        if name in sums and value.isdigit():
            sums[name] += int(value)
    return {
        Quantity.DISK_READ_BYTES: sums[b"rbytes"],
        Quantity.DISK_WRITTEN_BYTES: sums[b"wbytes"],
        Quantity.DISK_READS: sums[b"rios"],
        Quantity.DISK_WRITES: sums[b"wios"],
    }


def _sum(data: bytes, operation: bytes) -> int:
    """Add up one operation over the devices: lines of device, operation, number."""
    return sum(
        int(words[2])
        for line in data.splitlines()
        if len(words := line.split()) == 3 and words[1] == operation and words[2].isdigit()
    )


def _parse_mount(line: str) -> _Mount | None:
    before, separator, after = line.partition(" - ")
    words, end = before.split(" "), after.split(" ")
    if not separator or len(words) < 6 or len(end) < 3:
        return None
    root, point = _unescape(words[3]), _unescape(words[4])
    if end[0] == "cgroup2":
        return _Mount(point, root, 2, frozenset(_kinds))
    if end[0] == "cgroup":
        return _Mount(point, root, 1, frozenset(end[2].split(",")) & frozenset(_kinds))
    return None


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _parse_paths(text: str) -> dict[str, str]:
    """Return the path by controller; that of version 2 by an empty name."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        names, separator, path = rest.partition(":")
        if separator:
            paths.update((name, path) for name in names.split(","))
    return paths


def _find_below(mount: _Mount, path: str) -> str | None:
    """Return where a group is seen; None if the mount shows another part of the hierarchy."""
    relative = os.path.relpath(path, mount.root)
    if relative == "." or relative.split(os.sep)[0] == "..":
        return mount.point if relative == "." else None
    return f"{mount.point}/{relative}"
