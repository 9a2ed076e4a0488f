"""What can be wrong with a call that acts on an allocation.

AllocationError
├── AllocationNotFound
├── AllocationEnded
├── CallSuperseded
├── InvalidCall
└── UnknownResources
"""

from __future__ import annotations


class AllocationError(Exception):
    """A call on an allocation that cannot be answered."""


class AllocationNotFound(AllocationError):
    """No such allocation, or it has ended."""

    def __init__(self, allocation_id: str) -> None:
        super().__init__(f"allocation '{allocation_id}' not found")


class AllocationEnded(AllocationError):
    """The allocation ended while the caller was waiting."""

    def __init__(self, allocation_id: str) -> None:
        super().__init__(f"allocation '{allocation_id}' ended while this call was waiting")


class CallSuperseded(AllocationError):
    """The same caller asked again; the newer call gets the answer."""


class InvalidCall(AllocationError):
    """The arguments cannot be right."""


class UnknownResources(AllocationError):
    """The allocation has no resources of that name (any more)."""

    def __init__(self, allocation_id: str, resources_id: str) -> None:
        super().__init__(
            f"resources '{resources_id}' are unknown to allocation '{allocation_id}' (stale)"
        )
