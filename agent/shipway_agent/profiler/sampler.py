"""One look at the node, its GPUs and all containers, for everybody who wants to know."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from shipway_agent.errors import ContainerRuntimeError
from shipway_agent.profiler.cgroups import Hierarchies
from shipway_agent.profiler.container import ContainerMeter
from shipway_agent.profiler.gpus import GpuReader
from shipway_agent.profiler.node import NodeReader
from shipway_agent.profiler.quantities import ContainerUsage, GpuUsage, NodeUsage, Snapshot
from shipway_agent.profiler.trees import ProcessTrees
from shipway_agent.runtimes.spec import ContainerHandle, ContainerId, Processes
from shipway_common.logsetup import log_context

log = logging.getLogger(__name__)

_FIND_LIMIT_S = 5.0
"""For the runtime to say where the processes of new containers are."""
_REST_S = 30.0

Listener = Callable[[Snapshot], None]


class Sampler:
    """Takes snapshots: at an interval while somebody listens, else when it is asked. To be entered.

    While nobody asks and nobody listens it does nothing at all.
    """

    def __init__(
        self,
        *,
        list_running: Callable[[], Sequence[ContainerHandle]],
        find_processes: Callable[[ContainerHandle], Awaitable[Processes | None]],
        gpus: GpuReader | None = None,
        paths: Collection[Path] = (Path("/"),),
        interval_s: float = 1.0,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            list_running: The containers that run at this moment.
            find_processes: As `Runtime.processes`; asked once for each container.
            gpus: Reads the GPUs; None: there are none to read. Entered and left with this.
            paths: Whose file systems are looked at.
            interval_s: Time from one snapshot to the next.
        """
        self._list_running, self._find_processes = list_running, find_processes
        self._gpus = gpus
        self._meters = _Meters(paths)
        self._interval_s = interval_s
        self._rests: dict[ContainerId, float] = {}
        self._lock = asyncio.Lock()
        self._last: Snapshot | None = None
        self._seen: frozenset[ContainerId] = frozenset()
        """The containers that the last snapshot tried to look at."""
        self._listeners: list[Listener] = []
        self._heard = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._gpus is not None:
            await self._gpus.__aenter__()
        self._task = asyncio.create_task(self._run(), name="sample")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._gpus is not None:
            await self._gpus.__aexit__()
        async with self._lock:
            await asyncio.to_thread(self._meters.close)

    @contextmanager
    def listening(self, listener: Listener) -> Generator[None]:
        """Give *listener* a snapshot at each interval while the body runs."""
        self._listeners.append(listener)
        self._heard.set()
        try:
            yield
        finally:
            self._listeners.remove(listener)
            if not self._listeners:
                self._heard.clear()

    async def sample(self, *, max_age_s: float) -> Snapshot:
        """Return the last snapshot, or a new one if it is older or has not all that runs."""
        async with self._lock:
            running = {handle.container_id: handle for handle in self._list_running()}
            last = self._last
            if (
                last is None
                or time.monotonic() - last.clock_s >= max_age_s
                or not self._seen.issuperset(running)
            ):
                last = self._last = await self._look(running)
                self._seen = frozenset(running)
            return last

    async def _run(self) -> None:
        while True:
            await self._heard.wait()
            begun_s = time.monotonic()
            try:
                snapshot = await self.sample(max_age_s=self._interval_s / 2)
            except Exception:
                log.exception("looking at the node failed; trying again")
                await asyncio.sleep(_REST_S)
                continue
            for listener in list(self._listeners):
                listener(snapshot)
            await asyncio.sleep(max(0.0, self._interval_s - (time.monotonic() - begun_s)))

    async def _look(self, running: Mapping[ContainerId, ContainerHandle]) -> Snapshot:
        begun_s = time.monotonic()
        await self._find_new(running)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(self._read_gpus())
            node, containers = await asyncio.to_thread(self._meters.read, set(running), begun_s)
        return Snapshot(
            time=datetime.now(UTC),
            clock_s=begun_s,
            took_s=time.monotonic() - begun_s,
            node=node,
            containers=containers,
            gpus=reading.result(),
        )

    async def _read_gpus(self) -> tuple[GpuUsage, ...]:
        return () if self._gpus is None else await self._gpus.read()

    async def _find_new(self, running: Mapping[ContainerId, ContainerHandle]) -> None:
        """Ask the runtime where the processes of containers are that were not seen before."""
        now = time.monotonic()
        deadline = asyncio.get_running_loop().time() + _FIND_LIMIT_S
        self._rests = {one: until for one, until in self._rests.items() if one in running}
        for container_id in running.keys() - self._meters.known:
            if self._rests.get(container_id, 0.0) <= now:
                with log_context(container_id=container_id):
                    if not await self._find(running[container_id], deadline):
                        self._rests[container_id] = now + _REST_S

    async def _find(self, handle: ContainerHandle, deadline: float) -> bool:
        """Find the processes of one container; returns whether it is read from now on.

        Args:
            handle: The container.
            deadline: Of the loop's clock; one for all, since a runtime that hangs does so for each.
        """
        try:
            async with asyncio.timeout_at(deadline):
                processes = await self._find_processes(handle)
        except (ContainerRuntimeError, TimeoutError) as error:
            log.warning("no metrics of a container, trying again later: %r", error)
            return False
        if processes is None:
            return False
        try:
            await asyncio.to_thread(self._meters.add, handle, processes)
        except OSError as error:  # it has ended meanwhile, or is not for us to look at
            log.debug("no metrics of a container: %r", error)
            return False
        return True


class _Meters:
    """What blocks: the node and all containers that are known."""

    def __init__(self, paths: Collection[Path]) -> None:
        self._node = NodeReader(paths=paths)
        self._trees = ProcessTrees()
        self._hierarchies: Hierarchies | None = None
        self._containers: dict[ContainerId, ContainerMeter] = {}

    @property
    def known(self) -> set[ContainerId]:
        """The containers that are read."""
        return set(self._containers)

    def add(self, handle: ContainerHandle, processes: Processes) -> None:
        """Read one more container from now on.

        Raises:
            OSError: Its processes are gone.
        """
        if self._hierarchies is None:
            self._hierarchies = _find_hierarchies()
        self._containers[handle.container_id] = ContainerMeter(
            processes, native_id=handle.native_id, hierarchies=self._hierarchies
        )

    def read(
        self, running: Collection[ContainerId], clock_s: float
    ) -> tuple[NodeUsage, dict[ContainerId, ContainerUsage]]:
        """Read all that run, and forget those that do not."""
        for gone in self._containers.keys() - running:
            self._containers.pop(gone).close()
        node = self._node.read()
        roots = {meter.tree_root for meter in self._containers.values()}
        trees = self._trees.find([root for root in roots if root is not None])
        found: dict[ContainerId, ContainerUsage] = {}
        for container_id, meter in self._containers.items():
            tree = () if meter.tree_root is None else trees[meter.tree_root]
            try:
                found[container_id] = meter.read(tree, node, clock_s)
            except OSError:  # it has just ended
                continue
            except (ValueError, IndexError) as error:  # a kernel that writes it otherwise
                log.debug("numbers of %s cannot be read: %r", container_id, error)
        return node, found

    def close(self) -> None:
        """Let go of all."""
        for meter in self._containers.values():
            meter.close()
        self._containers.clear()


def _find_hierarchies() -> Hierarchies:
    try:
        return Hierarchies.read()
    except OSError as error:
        log.warning("control groups are not found: %s", error)
        return Hierarchies(())
