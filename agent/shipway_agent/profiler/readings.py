"""Readings of this node, by the names that the master and its users know.

A source that cannot tell a number leaves it out: missing is not zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What a number says, and of which GPU."""

    name: str
    gpu_uuid: str = ""


Readings = Mapping[Series, float]


class Source(Protocol):
    """One kind of readings; blocking."""

    @property
    def group(self) -> str:
        """The word for this kind: cpu, memory, disk, network."""
        ...

    def read(self, now_s: float) -> Readings:
        """Read what can be read; what is counted over time is missing at the first call.

        Args:
            now_s: Seconds of a clock that does not go back.

        Raises:
            OSError: This system does not tell.
        """
        ...


class CpuSource:
    """`cpu_util_simple`: how busy all processors together are, in percent."""

    group = "cpu"

    def __init__(self) -> None:
        # psutil.cpu_percent remembers one earlier reading for all callers in the process.
        self._before: tuple[float, float] | None = None

    def read(self, now_s: float) -> Readings:
        """Read the mean since the call before."""
        times = psutil.cpu_times()._asdict()
        idle_s = times["idle"] + times.get("iowait", 0.0)
        in_user_s = times.get("guest", 0.0) + times.get("guest_nice", 0.0)  # counted there, too
        total_s = sum(times.values()) - in_user_s
        before, self._before = self._before, (idle_s, total_s)
        if before is None or total_s <= before[1]:
            return {}
        idle_part = (idle_s - before[0]) / (total_s - before[1])
        return {Series(name="cpu_util_simple"): 100 * min(1.0, max(0.0, 1 - idle_part))}


class MemorySource:
    """`memory_free`: what programs could still get without swapping, in bytes."""

    group = "memory"

    def read(self, now_s: float) -> Readings:
        """Read it as it is now."""
        return {Series(name="memory_free"): float(psutil.virtual_memory().available)}


class DiskSource:
    """All disks' operations and bytes per second, and how full the root file system is (percent)."""

    group = "disk"

    def __init__(self) -> None:
        self._rates = Rates()

    def read(self, now_s: float) -> Readings:
        """Read the means since the call before; a system without disks tells only the fullness."""
        found = {Series(name="disk_util"): float(psutil.disk_usage("/").percent)}
        counters = psutil.disk_io_counters()
        if counters is None:
            return found
        totals = {
            "disk_iops": counters.read_count + counters.write_count,
            "disk_throughput_read": counters.read_bytes,
            "disk_throughput_write": counters.write_bytes,
        }
        return {**found, **self._rates.update(totals, now_s)}


class NetworkSource:
    """`net_throughput_sent` and `…_recv` of all interfaces together, in bytes per second."""

    group = "network"

    def __init__(self) -> None:
        self._rates = Rates()

    def read(self, now_s: float) -> Readings:
        """Read the means since the call before."""
        counters = psutil.net_io_counters()
        totals = {
            "net_throughput_sent": counters.bytes_sent,
            "net_throughput_recv": counters.bytes_recv,
        }
        return self._rates.update(totals, now_s)


class Rates:
    """Turns counters into rates."""

    def __init__(self) -> None:
        self._before: tuple[float, Mapping[str, int]] | None = None

    def update(self, totals: Mapping[str, int], now_s: float) -> Readings:
        """Return the rates since the call before; none for a counter that went back."""
        before, self._before = self._before, (now_s, totals)
        if before is None or now_s <= before[0]:
            return {}
        passed_s = now_s - before[0]
        return {
            Series(name=name): (total - before[1][name]) / passed_s
            for name, total in totals.items()
            if name in before[1] and total >= before[1][name]  # it wraps, or a disk was taken out
        }


def host_sources() -> list[Source]:
    """Make one of each source of this node."""
    return [CpuSource(), MemorySource(), DiskSource(), NetworkSource()]
