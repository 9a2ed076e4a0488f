"""The containers that are here, each with the task that lives its life; letting go and ending all."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any

from shipway_agent.containers.container import ManagedContainer
from shipway_agent.containers.ends import AGENT_STOPPED
from shipway_agent.containers.records import Record
from shipway_agent.containers.state import State
from shipway_agent.master.messages import Container
from shipway_agent.runtimes.spec import ContainerHandle, ContainerId
from shipway_common.logsetup import log_context

log = logging.getLogger(__name__)

_SAVE_INTERVAL_S = 1.0
_DETACH_LIMIT_S = 10.0


class Lives:
    """Entered with `async with`; leaving lets go of the containers, which go on."""

    def __init__(self) -> None:
        self.on_end: Callable[[Record], None] = lambda record: None
        """Called when a container's life is over and the master knows its end."""
        self.is_stopping = False
        """Whether no container is to be begun any more."""
        self._group = asyncio.TaskGroup()
        self._keeper: asyncio.Task[None] | None = None
        self._containers: dict[ContainerId, ManagedContainer] = {}
        self._tasks: dict[ContainerId, asyncio.Task[None]] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    async def __aenter__(self) -> Lives:
        await self._group.__aenter__()
        self._keeper = self._group.create_task(self._keep_records(), name="keep records")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.is_stopping = True
        if self._keeper is not None:
            self._keeper.cancel()
        for task in self._tasks.values():
            task.cancel()
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            for container in self:
                await container.save_if_dirty()

    def __iter__(self) -> Iterator[ManagedContainer]:
        return iter(list(self._containers.values()))

    def get(self, container_id: ContainerId) -> ManagedContainer | None:
        """Return one, in whatever state."""
        return self._containers.get(container_id)

    def running(self) -> list[tuple[Record, ContainerHandle]]:
        """List the containers that run now, each with the runtime's one."""
        return [
            (container.record, container.handle)
            for container in self._containers.values()
            if container.state is State.RUNNING and container.handle is not None
        ]

    def list_all(self) -> list[tuple[Record, ContainerHandle | None]]:
        """List the containers in any state, each with the runtime's one if there is one."""
        return [(one.record, one.handle) for one in self._containers.values()]

    def with_devices_of(self, container: Container) -> list[ManagedContainer]:
        """List those that have not ended and hold a device that *container* is to get."""
        wanted = {device.uuid for device in container.devices or ()}
        return [
            other
            for other in self._containers.values()
            if not other.ended.is_set()
            and any(device.uuid in wanted for device in other.record.container.devices or ())
        ]

    def begin(self, managed: ManagedContainer, life: Coroutine[Any, Any, None]) -> None:
        """Take in a container, and run *life*, which is its `live` or `resume`."""
        self._containers[managed.id] = managed
        self._idle.clear()
        self._tasks[managed.id] = self._group.create_task(
            self._stay_with(managed, life), name=f"container {managed.id}"
        )

    def let_go(self, managed: ManagedContainer) -> None:
        """Forget a container, which goes on."""
        self._tasks[managed.id].cancel()
        self._drop(managed)

    async def wait_idle(self) -> None:
        """Wait until there is no container, not even one whose end the master has not heard of."""
        await self._idle.wait()

    async def wait_settled(self) -> None:
        """Wait until the containers that have ended are told, read by the master and removed."""
        tasks = [self._tasks[container.id] for container in self if container.ended.is_set()]
        if tasks:
            await asyncio.wait(tasks)

    async def detach(self) -> None:
        """Begin none any more, end what does not run yet, and let go of what does."""
        self.is_stopping = True
        launching = [one for one in self if one.is_launching]
        for container in launching:
            container.stop_launch(AGENT_STOPPED)
        for container in self:
            if container.state is State.RUNNING and not container.ended.is_set():
                self._tasks[container.id].cancel()
        if await _ended(launching, _DETACH_LIMIT_S):
            log.error("launches do not end; their containers are found at the next start")

    async def drain(self, grace_s: float) -> None:
        """Begin none any more and end all: by SIGTERM, and after *grace_s* by SIGKILL."""
        self.is_stopping = True
        left = [one for one in self if not one.ended.is_set()]
        log.info("ending the containers", extra={"number": len(left), "grace_s": grace_s})
        for number, limit_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, _DETACH_LIMIT_S)):
            for container in left:
                container.end(number)
            left = await _ended(left, limit_s)
            if not left:
                return
            log.warning("containers go on after %s", number.name, extra={"number": len(left)})

    async def _stay_with(self, managed: ManagedContainer, life: Coroutine[Any, Any, None]) -> None:
        with log_context(container_id=managed.id):
            try:
                await life
            except Exception:
                log.exception("the watch over a container failed; it is ended")
                await managed.crash()
        if self._containers.get(managed.id) is managed:
            self._drop(managed)
            self.on_end(managed.record)

    def _drop(self, managed: ManagedContainer) -> None:
        del self._containers[managed.id]
        del self._tasks[managed.id]
        if not self._containers:
            self._idle.set()

    async def _keep_records(self) -> None:
        """Write down now and then how much output the master has read."""
        while True:
            await asyncio.sleep(_SAVE_INTERVAL_S)
            for container in self:
                await container.save_if_dirty()


async def _ended(containers: list[ManagedContainer], limit_s: float) -> list[ManagedContainer]:
    """Wait for the end of all, *limit_s* at most; returns those that go on."""
    try:
        async with asyncio.timeout(limit_s):
            for container in containers:
                await container.ended.wait()
    except TimeoutError:
        pass
    return [one for one in containers if not one.ended.is_set()]
