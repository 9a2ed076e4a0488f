"""One running container: where its numbers are, and reading them. Blocking."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping

from shipway_agent.profiler import cgroups, trees
from shipway_agent.profiler.cgroups import Hierarchies, MemoryLimit, Places
from shipway_agent.profiler.files import read_file
from shipway_agent.profiler.node import parse_interfaces, read_filesystem
from shipway_agent.profiler.quantities import ContainerUsage, NodeUsage, Quantity
from shipway_agent.runtimes.processes import ProcessIdentity, ProcessStat, find_process
from shipway_agent.runtimes.spec import Processes

_LIMITS_AGE_S = 10.0


class ContainerMeter:
    """Reads one container by the folder of its first process, held open.

    So whatever is read is that process's, and nothing once it has ended: a later process of the
    same pid has another folder.
    """

    def __init__(self, processes: Processes, *, native_id: str, hierarchies: Hierarchies) -> None:
        """Find the container's groups.

        Args:
            processes: Where it is.
            native_id: The runtime's own name for it.
            hierarchies: The control groups of this machine.

        Raises:
            OSError: Its first process is gone.
        """
        first = processes.first
        self._first_folder = _open_folder(first)
        try:
            self._started_at = trees.started_at(_identified(first))
            places = hierarchies.locate(read_file("cgroup", folder=self._first_folder))
            own = cgroups.own_places(places, "" if processes.holder else native_id)
            self._has_own_network = self._is_network_own()
        except BaseException:
            self.close()
            raise
        self._pid = first.pid
        self._places = own or places
        self._own: Places | None = own or None
        # Without a group of its own: all below the holder, or else the first process and all below.
        self._holder = None if own else processes.holder or first
        self._counts_holder = processes.holder is None
        self._sums: dict[Quantity, float] = {}
        self._limits_read_s: float | None = None
        self._memory_limits: list[MemoryLimit] = []
        self._quota: float | None = None

    @property
    def tree_root(self) -> int | None:
        """The process whose tree is to be looked at; None: a control group counts."""
        return None if self._holder is None else self._holder.pid

    def close(self) -> None:
        """Let go."""
        os.close(self._first_folder)

    def read(
        self, tree: Collection[ProcessStat], node: NodeUsage, clock_s: float
    ) -> ContainerUsage:
        """Read everything that can be read now.

        Args:
            tree: The processes below `tree_root`.
            node: What the machine has.
            clock_s: Now, by the clock that does not go back.

        Raises:
            OSError: The container has ended.
        """
        os.stat("stat", dir_fd=self._first_folder)
        numbers = self._read_groups() if self._own is not None else self._read_tree(tree)
        if self._limits_read_s is None or clock_s - self._limits_read_s >= _LIMITS_AGE_S:
            self._limits_read_s = clock_s
            self._memory_limits = cgroups.memory_limits(self._places)
            self._quota = cgroups.cpu_limit(self._places)
        numbers |= self._read_limits(node)
        if self._has_own_network:
            numbers |= self._read_network()
        numbers |= read_filesystem(f"/proc/self/fd/{self._first_folder}/root")
        return ContainerUsage(
            source="cgroup" if self._own is not None else "processes",
            started_at=self._started_at,
            numbers=numbers,
        )

    def _read_groups(self) -> dict[Quantity, float]:
        assert self._own is not None
        numbers = cgroups.read_cpu(self._own) | cgroups.read_disk(self._own)
        if (folder := self._own.get("memory")) is not None:
            numbers |= cgroups.read_memory(folder)
        if (members := cgroups.find_members(self._own)) is not None:
            numbers |= self._growing(trees.sum_disk(members))
        return numbers

    def _read_tree(self, below: Collection[ProcessStat]) -> dict[Quantity, float]:
        assert self._holder is not None
        holder = _identified(self._holder)
        processes = [holder, *below] if self._counts_holder else list(below)
        ended_ticks = 0 if self._counts_holder else holder.ended_ticks
        sums = trees.sum_cpu(processes, ended_ticks)
        sums |= trees.sum_disk(stat.pid for stat in processes)
        return self._growing(sums) | trees.sum_memory(processes)

    def _growing(self, sums: Mapping[Quantity, float]) -> dict[Quantity, float]:
        """Let sums over processes never become less than they were.

        A child that ends while a pass looks may be counted in neither its own numbers nor its
        parent's; one whose parent ignores its end is in nobody's afterwards.
        """
        found = {one: max(number, self._sums.get(one, 0.0)) for one, number in sums.items()}
        self._sums |= found
        return found

    def _read_limits(self, node: NodeUsage) -> dict[Quantity, float]:
        """Say how much it may have at most, and how much memory it could still get."""
        numbers: dict[Quantity, float] = {}
        processors = [] if self._quota is None else [self._quota]
        with contextlib.suppress(OSError):
            processors.append(len(os.sched_getaffinity(self._pid)))
        if processors:
            numbers[Quantity.CPU_LIMIT] = min(processors)
        free = [node.memory[Quantity.MEMORY_FREE]] if Quantity.MEMORY_FREE in node.memory else []
        for folder, limit_bytes in self._memory_limits:
            used = cgroups.read_memory(folder)
            held = used.get(Quantity.MEMORY_WORKING_SET, used.get(Quantity.MEMORY_USED))
            if held is not None:
                free.append(max(0.0, limit_bytes - held))
        if free:
            numbers[Quantity.MEMORY_FREE] = min(free)
        if self._memory_limits:
            numbers[Quantity.MEMORY_LIMIT] = min(one.limit_bytes for one in self._memory_limits)
        return numbers

    def _is_network_own(self) -> bool:
        """Tell whether its network is not the machine's; if that is not told, it counts as that."""
        try:
            network = os.stat("ns/net", dir_fd=self._first_folder).st_ino
            ours = {os.stat("/proc/self/ns/net").st_ino}
        except OSError:
            return False
        with contextlib.suppress(OSError):  # we may be in a container, and the host's init is seen
            ours.add(os.stat("/proc/1/ns/net").st_ino)
        return network not in ours

    def _read_network(self) -> dict[Quantity, float]:
        try:
            interfaces = parse_interfaces(read_file("net/dev", folder=self._first_folder))
        except OSError:
            return {}
        return {
            quantity: sum(numbers[quantity] for numbers in interfaces.values())
            for quantity in (Quantity.NETWORK_RECEIVED, Quantity.NETWORK_SENT)
            if interfaces
        }


def _open_folder(process: ProcessIdentity) -> int:
    """Open a process's folder in /proc, and make sure that it is that process's.

    Raises:
        ProcessLookupError: It is gone.
    """
    descriptor = os.open(f"/proc/{process.pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _identified(process)
    except ProcessLookupError:
        os.close(descriptor)
        raise
    return descriptor


def _identified(process: ProcessIdentity) -> ProcessStat:
    stat = find_process(process.pid)
    if stat is None or stat.start_ticks != process.start_ticks:
        raise ProcessLookupError(f"process {process.pid} is gone")
    return stat
