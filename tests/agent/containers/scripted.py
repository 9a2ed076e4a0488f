"""A runtime that does what a test says, for what real ones cannot be made to do at will."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from shipway_agent.errors import ContainerRuntimeError
from shipway_agent.runtimes.spec import (
    Chunk,
    ContainerHandle,
    ContainerId,
    ContainerSpec,
    ContainerState,
    Event,
    Exit,
    OnEvent,
    Owned,
    Started,
)

Step = Callable[[], None]


@dataclass
class ScriptedRuntime:
    """One container at most. What is put into `errors` under a call's name it raises, in turn."""

    name: str = "scripted"
    description: str = "does what a test says"
    errors: dict[str, list[ContainerRuntimeError | OSError]] = field(default_factory=dict)
    holds: dict[str, asyncio.Event] = field(default_factory=dict)
    """A call of that name waits for the event, after it did its work."""
    events: list[Event] = field(default_factory=list)
    written: list[Chunk] = field(default_factory=list)
    breaks_output_after: list[int] = field(default_factory=list)
    """Chunks after which reading the output fails, once each."""
    ends_output: bool = True
    calls: list[str] = field(default_factory=list)
    signals: list[int] = field(default_factory=list)
    state: ContainerState | None = None
    spec: ContainerSpec | None = None

    def __post_init__(self) -> None:
        self._exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    def end(self, code: int) -> None:
        self.state = ContainerState.EXITED
        if not self._exit.done():
            self._exit.set_result(Exit(code=code))

    async def pull(self, spec: ContainerSpec, on_event: OnEvent) -> None:
        for event in self.events:
            on_event(event)
        await self._step("pull")

    async def create(self, spec: ContainerSpec, on_event: OnEvent) -> ContainerHandle:
        self.spec = spec
        self.state = ContainerState.CREATED
        await self._step("create")
        return self._handle(spec.id)

    async def start(self, handle: ContainerHandle) -> Started:
        await self._step("start")
        self.state = ContainerState.EXITED if self._exit.done() else ContainerState.RUNNING
        return Started()

    async def output(self, handle: ContainerHandle) -> AsyncIterator[Chunk]:
        await self._step("output")
        limit = self.breaks_output_after.pop(0) if self.breaks_output_after else None
        for number, chunk in enumerate(self.written):
            if number == limit:
                raise ContainerRuntimeError("the log broke off")
            yield chunk
        if not self.ends_output:
            await asyncio.Event().wait()
        await asyncio.shield(self._exit)

    async def wait(self, handle: ContainerHandle) -> Exit:
        await self._step("wait")
        return await asyncio.shield(self._exit)

    async def signal(self, handle: ContainerHandle, number: int) -> None:
        await self._step("signal")
        self.signals.append(number)

    async def kill(self, handle: ContainerHandle) -> None:
        await self._step("kill")
        self.end(137)

    async def remove(self, handle: ContainerHandle) -> None:
        await self._step("remove")
        self.state = None

    async def list_owned(self, labels: Mapping[str, str]) -> list[Owned]:
        await self._step("list_owned")
        if self.state is None or self.spec is None:
            return []
        ended = self._exit.result() if self.state is ContainerState.EXITED else None
        owned = Owned(
            handle=self._handle(self.spec.id),
            container_id=self.spec.id,
            state=self.state,
            exit=ended,
            labels=self.spec.labels,
        )
        return [owned]

    async def aclose(self) -> None:
        pass

    async def _step(self, name: str) -> None:
        self.calls.append(name)
        if self.errors.get(name):
            raise self.errors[name].pop(0)
        if name in self.holds:
            await self.holds[name].wait()

    def _handle(self, container_id: ContainerId) -> ContainerHandle:
        return ContainerHandle(container_id=container_id, native_id=f"native-{container_id}")
