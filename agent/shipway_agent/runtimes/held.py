"""What all runtimes do alike whose containers are held by shims."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

from shipway_agent.errors import ContainerRuntimeError
from shipway_agent.runtimes import shimcontrol
from shipway_agent.runtimes.dockerforms import host_addresses
from shipway_agent.runtimes.options import RuntimeOptions
from shipway_agent.runtimes.shimcontrol import ShimControl, Tether
from shipway_agent.runtimes.shimfiles import ExitRecord, Launch
from shipway_agent.runtimes.shimreader import KeptOutput
from shipway_agent.runtimes.shimstore import HeldContainer, ShimStore, state_of
from shipway_agent.runtimes.spec import (
    ContainerHandle,
    ContainerSpec,
    ContainerState,
    Exit,
    Owned,
    Processes,
    Started,
)

log = logging.getLogger(__name__)

Planner = Callable[[Path], Awaitable[Launch]]
"""From a container's folder, with its archives in it, to how it is started."""


class HeldContainers:
    """The containers of one runtime that shims hold; on the host's own network."""

    def __init__(self, name: str, options: RuntimeOptions) -> None:
        """Use a folder of ours for the runtime *name*; `open` makes it."""
        self.store = ShimStore(options.state_dir / name)
        self._options = options
        self.kept = KeptOutput(self.store.folder)
        self._control = ShimControl(
            Tether() if options.tethered else None, in_units=options.in_units
        )

    async def open(self) -> None:
        """Get ready."""
        await self.store.open()

    async def create(
        self, spec: ContainerSpec, plan: Planner, *, details: Mapping[str, str] | None = None
    ) -> ContainerHandle:
        """Make the container; see `Runtime.create`.

        Args:
            spec: What it is to be.
            plan: Says how it is started.
            details: What its runtime wants to know of it later.
        """
        async with self.store.making(spec) as folder:
            launch = replace(
                await plan(folder),
                tethered=self._options.tethered,
                output_limit_bytes=self._options.output_limit_bytes,
                output_patience_s=self._options.output_patience_s,
            )
            container = HeldContainer(
                id=spec.id, labels=spec.labels, ports=spec.ports, details=details or {}
            )
            await self.store.save(container, launch)
        return ContainerHandle(container_id=spec.id, native_id=spec.id)

    async def start(
        self,
        handle: ContainerHandle,
        explain: Callable[[ExitRecord], ContainerRuntimeError],
        *,
        is_passing: Callable[[ExitRecord], bool] = lambda _: False,
        tries: int = 1,
    ) -> Started:
        """Start the program; see `Runtime.start`.

        Args:
            handle: The container.
            explain: Says why the program was refused, from what the runtime left.
            is_passing: Says whether it may be taken if it is started again.
            tries: How often it is started in that case.
        """
        container = await self.store.get(handle.container_id)
        folder = self.store.folder(handle.container_id)
        for attempt in range(1, tries + 1):
            launch = await self.store.load_launch(handle.container_id) if attempt < tries else None
            await self._control.launch(folder)
            ended = await shimcontrol.wait_running(folder)
            if ended is None or ended.launched:
                break
            if launch is None or not is_passing(ended):
                raise explain(ended)
            log.warning("cannot start container %s yet: %s", container.id, ended.message)
            await self.store.renew(handle.container_id, launch)
        return Started(addresses=host_addresses(container.ports))

    async def wait(self, handle: ContainerHandle) -> Exit:
        """Wait for the end; see `Runtime.wait`."""
        return await shimcontrol.wait_exit(self.store.folder(handle.container_id))

    async def signal(self, handle: ContainerHandle, number: int) -> None:
        """Signal the task's first process; see `Runtime.signal`."""
        await shimcontrol.send_signal(self.store.folder(handle.container_id), number)

    async def kill(self, handle: ContainerHandle) -> None:
        """End it all; see `Runtime.kill`."""
        folder = self.store.folder(handle.container_id)
        await self._control.settle(folder)
        await shimcontrol.kill(folder)

    async def remove(self, handle: ContainerHandle) -> None:
        """Kill and forget; see `Runtime.remove`."""
        await self.kill(handle)
        await self.store.remove(handle.container_id)

    async def list_owned(self, labels: Mapping[str, str]) -> list[Owned]:
        """Find ours; see `Runtime.list_owned`."""
        return [await self.find(container) for container in await self.store.list(labels)]

    async def find(self, container: HeldContainer) -> Owned:
        """Say how far a container is."""
        state, _, ended = await asyncio.to_thread(state_of, self.store.folder(container.id))
        return Owned(
            handle=ContainerHandle(container_id=container.id, native_id=container.id),
            container_id=container.id,
            state=state,
            exit=shimcontrol.exit_of(ended) if state is ContainerState.EXITED else None,
            labels=container.labels,
            addresses=host_addresses(container.ports),
        )

    async def processes(self, handle: ContainerHandle) -> Processes | None:
        """Find the container's processes, which are all below its shim."""
        state, started, _ = await asyncio.to_thread(state_of, self.store.folder(handle.native_id))
        if state is not ContainerState.RUNNING or started is None:
            return None
        return Processes(first=started.payload or started.main, holder=started.shim)

    async def aclose(self) -> None:
        """Let go of all; those that hang on a tether end."""
        self.kept.close()
        await self._control.aclose()
