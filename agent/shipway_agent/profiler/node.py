"""The whole machine: processors, memory, disks, network interfaces, file systems. Blocking."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

from shipway_agent.profiler.files import entry_of, read_file
from shipway_agent.profiler.quantities import NodeUsage, Quantity

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SECTOR_BYTES = 512
"""Of /proc/diskstats, whatever the disk's own sectors are."""
_VIRTUAL_DISKS = ("loop", "ram", "zram", "sr", "fd")
_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")

Found = TypeVar("Found")


class NodeReader:
    """Reads the machine; each source stands alone, and one that fails is left out."""

    def __init__(self, *, paths: Collection[Path] = (Path("/"),), root: str = "/") -> None:
        """Prepare.

        Args:
            paths: Whose file systems are looked at.
            root: Where /proc and /sys are.
        """
        self._paths = tuple(dict.fromkeys(str(path) for path in paths))
        self._root = root.rstrip("/")
        self._disks: dict[str, bool] = {}

    def read(self) -> NodeUsage:
        """Look at everything once."""
        cpus, cpu_seconds = _or_nothing(self._read_cpus, (0, dict[str, float]()))
        return NodeUsage(
            cpus=cpus,
            cpu_seconds=cpu_seconds,
            memory=_or_nothing(self._read_memory, {}),
            disks=_or_nothing(self._read_disks, {}),
            networks=_or_nothing(self._read_networks, {}),
            filesystems={
                path: numbers for path in self._paths if (numbers := read_filesystem(path))
            },
        )

    def _read_cpus(self) -> tuple[int, dict[str, float]]:
        lines = read_file(f"{self._root}/proc/stat").splitlines()
        words = lines[0].split()
        cpus = sum(1 for line in lines[1:] if line.startswith(b"cpu"))
        # Time as a guest, which follows, is in user and nice already.
        ticks = zip(_MODES, words[1:], strict=False)
        return cpus, {mode: int(count) / _TICKS_PER_S for mode, count in ticks}

    def _read_memory(self) -> dict[Quantity, float]:
        data = b"\n" + read_file(f"{self._root}/proc/meminfo")
        names = {Quantity.MEMORY_TOTAL: b"MemTotal", Quantity.MEMORY_FREE: b"MemAvailable"}
        return {
            quantity: number * 1024
            for quantity, name in names.items()
            if (number := entry_of(data, name)) is not None
        }

    def _read_disks(self) -> dict[str, dict[Quantity, float]]:
        found: dict[str, dict[Quantity, float]] = {}
        for line in read_file(f"{self._root}/proc/diskstats").splitlines():
            words = line.split()
            if len(words) < 11:
                continue
            name = words[2].decode("ascii", "replace")
            if self._is_whole_disk(name):
                found[name] = {
                    Quantity.DISK_READS: int(words[3]),
                    Quantity.DISK_READ_BYTES: int(words[5]) * _SECTOR_BYTES,
                    Quantity.DISK_WRITES: int(words[7]),
                    Quantity.DISK_WRITTEN_BYTES: int(words[9]) * _SECTOR_BYTES,
                }
        self._disks = {name: is_whole for name, is_whole in self._disks.items() if name in found}
        return found

    def _is_whole_disk(self, name: str) -> bool:
        """Tell a disk from its partitions, and from volumes that are made of others."""
        if (known := self._disks.get(name)) is not None:
            return known
        folder = f"{self._root}/sys/block/{name.replace('/', '!')}"
        is_whole = not name.startswith(_VIRTUAL_DISKS) and os.path.isdir(folder)
        if is_whole and os.path.isdir(f"{folder}/slaves"):
            is_whole = not os.listdir(f"{folder}/slaves")
        self._disks[name] = is_whole
        return is_whole

    def _read_networks(self) -> dict[str, dict[Quantity, float]]:
        found = parse_interfaces(read_file(f"{self._root}/proc/net/dev"))
        # The near ends of containers come and go, and have no meaning for themselves.
        return {name: numbers for name, numbers in found.items() if not name.startswith("veth")}


def parse_interfaces(data: bytes) -> dict[str, dict[Quantity, float]]:
    """Read /proc/net/dev: two lines of headings, then one for each interface; not the loopback."""
    found: dict[str, dict[Quantity, float]] = {}
    for line in data.splitlines()[2:]:
        name, colon, rest = line.rpartition(b":")
        words = rest.split()
        if colon and len(words) >= 9 and name.strip() != b"lo":
            found[os.fsdecode(name.strip())] = {
                Quantity.NETWORK_RECEIVED: int(words[0]),
                Quantity.NETWORK_SENT: int(words[8]),
            }
    return found


def read_filesystem(path: str) -> Mapping[Quantity, float]:
    """Say how big a path's file system is, and how much of it users could still write."""
    try:
        told = os.statvfs(path)
    except OSError:
        return {}
    if not told.f_blocks:
        return {}
    return {
        Quantity.FILESYSTEM_SIZE: told.f_blocks * told.f_frsize,
        Quantity.FILESYSTEM_FREE: told.f_bavail * told.f_frsize,
    }


def _or_nothing(read: Callable[[], Found], nothing: Found) -> Found:
    try:
        return read()
    except (OSError, ValueError, IndexError):  # this kernel tells it otherwise, or not at all
        return nothing
