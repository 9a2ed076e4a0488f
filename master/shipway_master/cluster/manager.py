"""What a resource manager is asked, what it tells, and the Protocol of both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from shipway_master.agents.devices import Device
from shipway_master.allocations.exits import Failure
from shipway_master.allocations.ids import AgentId, AllocationId, JobId, ResourcesId, TaskId
from shipway_master.allocations.life import ResourcesState
from shipway_master.allocations.rendezvous import Address
from shipway_master.tasks.defaults import TaskContainerDefaults
from shipway_master.tasks.launch import Launch
from shipway_proto.determined.agent.v1.agent_pb2 import Agent
from shipway_proto.determined.resourcepool.v1.resourcepool_pb2 import ResourcePool


class Ordering(StrEnum):
    """By what the waiting requests of a pool are served."""

    PRIORITY = "priority"
    FAIR_SHARE = "fair share"
    SLURM = "Slurm"


class PoolNotFound(Exception):
    """No resource manager offers a pool of that name."""


class Unfulfillable(Exception):
    """The pool could not hold the request if it were empty; the text has the numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What one allocation needs."""

    allocation_id: AllocationId
    task_id: TaskId
    job_id: JobId
    pool: str
    slots: int
    priority: int
    weight: float = 1.0
    submitted_at: datetime
    """When the task was first submitted."""
    requested_at: datetime
    """When this run was."""
    is_preemptible: bool
    is_single_agent: bool
    """All its slots must be on one agent."""
    slots_per_node: int | None = None
    """Only Slurm reads it."""
    max_slots: int | None = None
    """So many slots all tasks of the job may have together."""
    excluded_nodes: tuple[str, ...] = ()
    """Agents, or nodes of Slurm, that must not be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One share of resources that an allocation was given."""

    resources_id: ResourcesId
    slots: int
    agent_id: AgentId | None = None
    """None for a Slurm job, whose nodes Slurm chooses."""
    devices: tuple[Device, ...] = ()
    state: ResourcesState = ResourcesState.ASSIGNED
    """The last one known, when it is taken up again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that happened to one share."""

    state: ResourcesState
    addresses: tuple[Address, ...] = ()
    native_id: str = ""
    failure: Failure | None = None
    """Only with TERMINATED; none there means that it ended well."""
    is_preempted: bool = False
    """Only with TERMINATED: the scheduler took the resources away, or had announced it."""


class Holder(Protocol):
    """Whoever wants resources: what a resource manager knows of an allocation."""

    @property
    def request(self) -> Request:
        """What is wanted."""
        ...

    @property
    def is_leaving(self) -> bool:
        """Whether it has been asked to leave, or is being killed."""
        ...

    @property
    def is_killed(self) -> bool:
        """Whether it is being killed."""
        ...

    @property
    def are_all_running(self) -> bool:
        """Whether all of its containers have been seen to run."""
        ...

    async def assigned(self, assignments: Sequence[Assignment]) -> bool:
        """Take resources, and start on them; False if they are not wanted any more."""
        ...

    async def changed(self, resources_id: ResourcesId, change: Change) -> None:
        """Hear of a change; repeated and late ones do no harm."""
        ...

    async def say(self, text: str, *, is_error: bool = False) -> None:
        """Write a line into the task's log."""
        ...

    async def make_room(self, reason: str) -> None:
        """Leave because the scheduler needs the room."""
        ...

    async def kill(self, reason: str) -> None:
        """End at once."""
        ...


class ResourceManager(Protocol):
    """One kind of resources: node agents, or Slurm through one launcher."""

    @property
    def name(self) -> str:
        """Distinguishes it from the others; tasks in the database refer to it."""
        ...

    @property
    def default_pools(self) -> tuple[str | None, str | None]:
        """The pools for tasks that name none: with slots, and without."""
        ...

    def has_pool(self, pool: str) -> bool:
        """Whether the pool is one of this manager's."""
        ...

    def explain_pools(self) -> str:
        """Say which pools there are, or why they are not known, for an error message."""
        ...

    def list_pools(self) -> list[ResourcePool]:
        """Describe the pools."""
        ...

    def list_agents(self) -> list[Agent]:
        """Describe the agents or nodes."""
        ...

    def get_defaults(self, pool: str) -> TaskContainerDefaults:
        """The task container defaults of a pool, beyond the master's."""
        ...

    def get_default_priority(self, pool: str) -> int:
        """The priority of a task in this pool that names none."""
        ...

    def check(self, request: Request) -> bool:
        """Check that the pool could ever hold the request.

        Returns:
            False when that is not so at the moment, but may become so.

        Raises:
            Unfulfillable: It could not.
        """
        ...

    def submit(self, holder: Holder) -> None:
        """Put a request into the queue."""
        ...

    async def restore(self, holder: Holder, assignments: Sequence[Assignment]) -> bool:
        """Take up again what an allocation had before the master restarted; False if it is gone."""
        ...

    async def start(
        self, holder: Holder, assignment: Assignment, launch: Launch, *, shares: int
    ) -> None:
        """Start the task on an assigned share; what comes of it is told by `changed`."""
        ...

    async def kill(self, allocation_id: AllocationId, resources_id: ResourcesId) -> None:
        """Ask for the end of a share; its end is told by `changed`."""
        ...

    def take_back(self, allocation_id: AllocationId) -> bool:
        """Withdraw a request that waits here; False when it does not wait here (any more)."""
        ...

    def withdraw(self, allocation_id: AllocationId) -> None:
        """Forget the request; what it had is free again."""
        ...

    def get_ordering(self, pool: str) -> Ordering:
        """By what the waiting requests of the pool are served."""
        ...

    def reorder(self) -> None:
        """Hear that priorities or weights of requests have changed."""
        ...

    def get_jobs_ahead(self, allocation_id: AllocationId) -> int:
        """How many waiting requests come before this one; -1 if nobody knows."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolChoice:
    """The pool that a task goes to."""

    pool: str
    manager: ResourceManager = field(repr=False)
