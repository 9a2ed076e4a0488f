"""The states of an allocation and of its resources, and which may follow which."""

from __future__ import annotations

from enum import StrEnum


class AllocationState(StrEnum):
    """In the order of life; an allocation only ever moves down this list."""

    PENDING = "PENDING"
    ASSIGNED = "ASSIGNED"
    PULLING = "PULLING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    TERMINATING = "TERMINATING"
    TERMINATED = "TERMINATED"


class ResourcesState(StrEnum):
    """What one container or one Slurm job does; UNKNOWN stands for "nothing heard yet"."""

    UNKNOWN = ""
    ASSIGNED = "ASSIGNED"
    PULLING = "PULLING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    TERMINATED = "TERMINATED"


_allocation_order = {state: number for number, state in enumerate(AllocationState)}
_resources_order = {state: number for number, state in enumerate(ResourcesState)}

_as_allocation = {
    ResourcesState.UNKNOWN: AllocationState.PENDING,
    ResourcesState.ASSIGNED: AllocationState.ASSIGNED,
    ResourcesState.PULLING: AllocationState.PULLING,
    ResourcesState.STARTING: AllocationState.STARTING,
    ResourcesState.RUNNING: AllocationState.RUNNING,
    ResourcesState.TERMINATED: AllocationState.TERMINATING,
}


def advance(current: AllocationState, reported: AllocationState) -> AllocationState:
    """Return the later one of the two: late or repeated reports never move a state back.

    As WAITING is above RUNNING, a "ready" after a "waiting" leaves WAITING.
    """
    return max(current, reported, key=_allocation_order.__getitem__)


def advance_resources(current: ResourcesState, reported: ResourcesState) -> ResourcesState:
    """Return the later one of the two states of one container or job."""
    return max(current, reported, key=_resources_order.__getitem__)


def is_at_least(state: AllocationState, other: AllocationState) -> bool:
    """Whether *state* is *other* or comes after it."""
    return _allocation_order[state] >= _allocation_order[other]


def get_allocation_state(resources: ResourcesState) -> AllocationState:
    """The state that an allocation has reached when one of its resources is in this one."""
    return _as_allocation[resources]
