"""From what happens to a container to messages for the master."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from shipway_agent.logs.batch import Batch
from shipway_agent.logs.prefix import parse_prefix, prefix_length
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

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

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

    async def output(self, container_id: ContainerId, batch: Batch, on_read: OnRead) -> None:
        """Bring lines of the task; returns when all are on their way.

        Args:
            on_read: Called when the master has read the last of them.
        """
        left = batch.count
        for part in batch.parts:
            time = _EPOCH + timedelta(microseconds=part.time_us)
            for line, end in zip(part.lines.texts, part.lines.ends(), strict=True):
                left -= 1
                if not self._outbox.has_room:
                    await self._outbox.wait_room()
                level, text = _split_level(line[:-1], part.lines.has_prefixes)
                self._outbox.put_output(
                    ContainerLog(
                        container_id=container_id,
                        time=time,
                        text=text,
                        agent_id=self._agent_id,
                        level=level,
                        output=OutputPlace(stream=part.lines.stream, end=end),
                    ),
                    on_read=None if left else on_read,
                )

    @property
    def has_room(self) -> bool:
        """Whether the master takes output as it comes."""
        return self._outbox.has_room

    async def wait_room(self) -> None:
        """Wait until the master has read enough of the output."""
        await self._outbox.wait_room()


def _split_level(line: bytes, may_have_prefix: bool) -> tuple[Level, str]:
    """Take the level off, which the master writes again; a rank has no other place than the text."""
    cut = prefix_length(line) if may_have_prefix else 0
    label = parse_prefix(line[:cut])
    if label.level == "UNSPECIFIED":
        return label.level, line.decode()
    rank = "" if label.rank is None else f"[rank={label.rank}] "
    return label.level, rank + line[cut:].decode()
