"""From what happens to a container to messages for the master."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from shipway_agent.logs.lines import Line, wire_text
from shipway_agent.logs.prefix import split_prefix
from shipway_agent.master.messages import (
    Container,
    ContainerLog,
    Failure,
    Level,
    OutputPlace,
    PullStats,
    Running,
    StateChanged,
)
from shipway_agent.master.outbox import OnRead, Outbox
from shipway_agent.runtimes.spec import ContainerId

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time of the wall clock."""
    return datetime.now(UTC)


class Reports:
    """Puts messages about containers into the outbox."""

    def __init__(self, outbox: Outbox, agent_id: str, clock: Clock = utc_now) -> None:
        self._outbox = outbox
        self._agent_id = agent_id
        self._clock = clock

    def state(
        self,
        container: Container,
        *,
        running: Running | None = None,
        failure: Failure | None = None,
        on_read: OnRead | None = None,
    ) -> None:
        """Tell the state of *container*."""
        self._outbox.put(
            StateChanged(container=container, running=running, failure=failure), on_read=on_read
        )

    def note(self, container_id: ContainerId, text: str, level: Level = "INFO") -> None:
        """Write a line of the agent's own into the task's log."""
        self._outbox.put_note(
            ContainerLog(
                container_id=container_id,
                time=self._clock(),
                text=text,
                agent_id=self._agent_id,
                level=level,
            )
        )

    def pull(
        self, container_id: ContainerId, *, allocation_id: str, task_type: str, ended: bool
    ) -> None:
        """Tell that fetching the image began or ended."""
        self._outbox.put(
            PullStats(
                container_id=container_id,
                allocation_id=allocation_id,
                task_type=task_type,
                time=self._clock(),
                ended=ended,
            )
        )

    def output(self, container_id: ContainerId, line: Line, on_read: OnRead) -> None:
        """Bring a line of the task; `wait_room` comes before."""
        level, text = split_prefix(wire_text(line.text))
        self._outbox.put_output(
            ContainerLog(
                container_id=container_id,
                time=self._clock(),
                text=text,
                agent_id=self._agent_id,
                level=level,
                output=OutputPlace(stream=line.stream, end=line.end),
            ),
            on_read=on_read,
        )

    @property
    def has_room(self) -> bool:
        """Whether the master takes output as it comes."""
        return self._outbox.has_room

    async def wait_room(self) -> None:
        """Wait until the master has read enough of the output."""
        await self._outbox.wait_room()
