"""The newest line of each container that the relay has taken, delivered or not.

A sender that lost an answer asks for it before it repeats what it sent. The master would not know
of lines that are still here.
"""

from __future__ import annotations

from shipway_proto.determined.api.v1 import task_pb2 as api_task
from shipway_proto.determined.task.v1.task_pb2 import TaskLog

_CONTAINERS = 4096


class NewestLines:
    """Of one allocation."""

    def __init__(self) -> None:
        self._lines: dict[str, TaskLog] = {}

    def note(self, request: api_task.PostTaskLogsRequest) -> None:
        """Take note of lines that were taken."""
        last = {line.container_id: line for line in request.logs}
        for container_id, line in last.items():
            known = self._lines.get(container_id)
            if known is None and len(self._lines) >= _CONTAINERS:
                continue
            if known is None or _time(line) >= _time(known):
                # A copy, for a part of a message keeps the whole in memory.
                self._lines[container_id] = TaskLog.FromString(line.SerializeToString())

    def find(self, container_id: str) -> TaskLog | None:
        """Return the newest line; None: nothing came from this container in this run's memory."""
        return self._lines.get(container_id)


def _time(line: TaskLog) -> tuple[int, int]:
    return line.timestamp.seconds, line.timestamp.nanos
