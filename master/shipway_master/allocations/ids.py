"""The names of tasks, their runs and their shares of resources."""

from __future__ import annotations

from typing import NewType

TaskId = NewType("TaskId", str)
JobId = NewType("JobId", str)
AllocationId = NewType("AllocationId", str)
ResourcesId = NewType("ResourcesId", str)
"""One container on an agent (then also the container's id), or one whole Slurm job."""
AgentId = NewType("AgentId", str)


class MalformedAllocationId(ValueError):
    """The text is not `<task id>.<run>`."""


def make_allocation_id(task_id: TaskId, run: int) -> AllocationId:
    """Name run number *run* (from 1) of a task."""
    return AllocationId(f"{task_id}.{run}")


def parse_allocation_id(text: str) -> AllocationId:
    """Check the form of an id that came from outside.

    Raises:
        MalformedAllocationId: There is no dot in it, so that it names no task.
    """
    if "." not in text:
        raise MalformedAllocationId(f"allocation id {text!r} is malformed: it has no '.'")
    return AllocationId(text)


def get_task_id(allocation_id: AllocationId) -> TaskId:
    """Everything before the last dot."""
    return TaskId(allocation_id.rpartition(".")[0])


def get_run(allocation_id: AllocationId) -> int:
    """The number after the last dot; 0 when it is none."""
    run = allocation_id.rpartition(".")[2]
    return int(run) if run.isascii() and run.isdigit() else 0
