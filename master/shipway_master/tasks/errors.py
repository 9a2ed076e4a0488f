"""What can be wrong with a wish about a task.

TaskRefused
├── TaskNotFound
├── BadTask           the request cannot become a task
└── TaskInWrongState
"""

from __future__ import annotations


class TaskRefused(Exception):
    """The wish is not granted; the text says why."""


class TaskNotFound(TaskRefused):
    """There is no such task."""

    def __init__(self, kind: str, task_id: str) -> None:
        super().__init__(f"{kind} '{task_id}' not found")
        self.kind, self.task_id = kind, task_id


class BadTask(TaskRefused):
    """The request cannot become a task."""


class TaskInWrongState(TaskRefused):
    """The task is not in a state for it."""
