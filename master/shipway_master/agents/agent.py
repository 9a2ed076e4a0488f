"""One agent as the master knows it: its slots, its containers, and what people decided about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from shipway_master.agents.devices import Device
from shipway_master.agents.fitting import Room
from shipway_master.agents.inbox import Inbox
from shipway_master.agents.messages import Expected, StartOrder
from shipway_master.agents.session import Session
from shipway_master.allocations.ids import AgentId, AllocationId, ResourcesId, TaskId
from shipway_master.allocations.life import ResourcesState


@dataclass(slots=True, kw_only=True)
class Slot:
    """One device of an agent."""

    device: Device
    enabled: bool = True
    draining: bool = False
    problem: str | None = None
    """Why its agent wants no work for it just now; apart from what people decided."""
    container_id: ResourcesId | None = None

    @property
    def can_be_used(self) -> bool:
        """Whether tasks may start here."""
        return self.enabled and not self.draining and self.problem is None


@dataclass(slots=True, kw_only=True)
class PlacedContainer:
    """A container that sits on an agent, or is on its way there."""

    id: ResourcesId
    allocation_id: AllocationId
    task_id: TaskId
    devices: tuple[Device, ...]
    state: ResourcesState = ResourcesState.ASSIGNED
    order: StartOrder | None = field(default=None, repr=False)
    """Known only to the process that gave it; lets a start that got lost be repeated."""
    is_overdue: bool = False
    """The agent did not begin with it in time and was told to drop it."""


@dataclass(slots=True, kw_only=True)
class Agent:
    """One agent; changed by its own worker and by the scheduler, never across an await."""

    id: AgentId
    pool: str
    registered_at: datetime
    address: str
    version: str
    max_aux: int
    enabled: bool = True
    draining: bool = False
    slots: dict[int, Slot] = field(default_factory=dict[int, Slot])
    containers: dict[ResourcesId, PlacedContainer] = field(
        default_factory=dict[ResourcesId, PlacedContainer]
    )
    session: Session | None = None
    is_started: bool = False
    """It has said on this connection what it has."""
    is_known: bool = False
    """It has said so once: it is in the database and may come back."""
    is_removed: bool = False
    inbox: Inbox = field(default_factory=Inbox, repr=False)

    @property
    def is_connected(self) -> bool:
        """Whether orders reach it now."""
        return self.session is not None and self.is_started

    def compute_room(self) -> Room | None:
        """What the scheduler may use; None while nothing may start here."""
        if not self.is_connected or not self.enabled or self.draining:
            return None
        usable = [slot for slot in self.slots.values() if slot.can_be_used]
        aux_used = sum(not container.devices for container in self.containers.values())
        return Room(
            agent_id=self.id,
            slots=len(usable),
            free_slots=sum(slot.container_id is None for slot in usable),
            aux_total=self.max_aux,
            free_aux=self.max_aux - aux_used,
        )

    def place(
        self, container_id: ResourcesId, allocation_id: AllocationId, task_id: TaskId, slots: int
    ) -> PlacedContainer:
        """Take *slots* free devices, lowest ids first, for a new container."""
        free = [
            slot
            for _, slot in sorted(self.slots.items())
            if slot.can_be_used and slot.container_id is None
        ]
        if len(free) < slots:
            raise AssertionError("the scheduler counted wrong")
        for slot in free[:slots]:
            slot.container_id = container_id
        container = PlacedContainer(
            id=container_id,
            allocation_id=allocation_id,
            task_id=task_id,
            devices=tuple(slot.device for slot in free[:slots]),
        )
        self.containers[container_id] = container
        return container

    def put_back(self, container: PlacedContainer) -> None:
        """Take up a container that sat here before the master restarted."""
        self.containers[container.id] = container
        for device in container.devices:
            if device.id in self.slots:
                self.slots[device.id].container_id = container.id

    def free(self, container_id: ResourcesId) -> None:
        """Forget a container and free its devices; by its id, whatever a message says."""
        self.containers.pop(container_id, None)
        for slot in self.slots.values():
            if slot.container_id == container_id:
                slot.container_id = None

    def set_devices(self, devices: Sequence[Device]) -> None:
        """Make the devices of a new agent its slots."""
        self.slots = {device.id: Slot(device=device) for device in devices}

    def set_problems(self, problems: Mapping[int, str]) -> dict[int, str | None]:
        """Take the health of all slots; returns what changed, None for those that are well again."""
        changes: dict[int, str | None] = {}
        for number, slot in self.slots.items():
            problem = problems.get(number)
            if problem != slot.problem:
                slot.problem = changes[number] = problem
        return changes

    def has_devices(self, devices: Sequence[Device]) -> bool:
        """Whether these are exactly the agent's devices, in any order."""
        return {device.id: device for device in devices} == {
            number: slot.device for number, slot in self.slots.items()
        }

    def list_expected(self) -> list[Expected]:
        """The containers that should live there, for its next greeting.

        A running one is named as running. Of one that was still starting, any state will do: it
        may have come further meanwhile, and an agent takes a wrong guess for a failure.
        """
        return [
            Expected(
                id=container.id,
                state=container.state
                if container.state is ResourcesState.RUNNING
                else ResourcesState.UNKNOWN,
                devices=container.devices,
            )
            for container in self.containers.values()
        ]
