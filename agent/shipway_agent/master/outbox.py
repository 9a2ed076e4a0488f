"""Messages for the master, in order, kept until it has surely read them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from shipway_agent.master.messages import (
    AgentMessage,
    ContainerLog,
    PullStats,
    SlotHealth,
    StateChanged,
)
from shipway_agent.master.wire import encode_message
from shipway_agent.runtimes.spec import ContainerId

OnRead = Callable[[], None]


@dataclass(slots=True)
class Entry:
    """One message on its way."""

    message: AgentMessage
    text: str
    on_read: OnRead | None
    number: int = 0
    """Counts the messages sent; given when this one is."""


class Outbox:
    """A queue that survives connections.

    States and statistics are few and always taken. What the agent says about a container is
    dropped beyond a limit, with a line that says how much. A task's output is never dropped: who
    brings it waits for room, and it waits in turn in the runtime's files.
    """

    def __init__(
        self, *, room_bytes: int = 8 << 20, window_bytes: int = 1 << 20, max_notes: int = 2000
    ) -> None:
        """Make an empty queue.

        Args:
            room_bytes: How much output may be kept here.
            window_bytes: How much may be sent that the master has not read yet. A slow master then
                shows by its receipts that it lives, and gets less again after a new connection.
            max_notes: How many of the agent's own lines may be kept here.
        """
        self._room_bytes = room_bytes
        self._window_bytes = window_bytes
        self._max_notes = max_notes
        self._waiting: deque[Entry] = deque()
        self._sent: deque[Entry] = deque()
        self._sent_bytes = 0
        self._output_bytes = 0
        self._notes = 0
        self._dropped: dict[ContainerId, tuple[ContainerLog, int]] = {}
        self.sent_number = 0
        """How many messages were sent so far, those that were sent again included."""
        self._sent_more = asyncio.Event()
        self._wake = asyncio.Event()
        self._half_sent = asyncio.Event()
        self._roomy = asyncio.Event()
        self._roomy.set()
        self._empty = asyncio.Event()
        self._empty.set()

    def put(
        self, message: StateChanged | PullStats | SlotHealth, *, on_read: OnRead | None = None
    ) -> None:
        """Add a message that must arrive.

        Args:
            on_read: Called when the master has read it, or has no use for it any more.
        """
        self._add(Entry(message, encode_message(message), on_read))

    def put_note(self, message: ContainerLog) -> None:
        """Add a line of the agent's own, or count it as dropped."""
        if self._notes >= self._max_notes:
            _, number = self._dropped.get(message.container_id, (message, 0))
            self._dropped[message.container_id] = (message, number + 1)
            return
        self._notes += 1
        self._add(Entry(message, encode_message(message), None))

    def put_output(self, message: ContainerLog, *, on_read: OnRead | None) -> None:
        """Add a line of a task; call `wait_room` before, and not for each line."""
        entry = Entry(message, encode_message(message), on_read)
        self._output_bytes += len(entry.text)
        if self._output_bytes >= self._room_bytes:
            self._roomy.clear()
        self._add(entry)

    @property
    def has_room(self) -> bool:
        """Whether output would be taken now."""
        return self._roomy.is_set()

    async def wait_room(self) -> None:
        """Wait until the master has read enough of what is on its way."""
        await self._roomy.wait()

    async def wait_empty(self) -> None:
        """Wait until the master has read everything."""
        await self._empty.wait()

    async def take(self) -> Entry:
        """Wait for the next message to send; it counts as sent when this returns."""
        while not self._waiting or self._sent_bytes >= self._window_bytes:
            self._wake.clear()
            await self._wake.wait()
        entry = self._waiting.popleft()
        self._sent_bytes += len(entry.text)
        if self._sent_bytes >= self._window_bytes // 2:
            self._half_sent.set()
        self.sent_number += 1
        entry.number = self.sent_number
        self._sent.append(entry)
        self._sent_more.set()
        return entry

    async def wait_sent(self, number: int) -> None:
        """Wait until more than *number* messages were sent; only one task may do so."""
        while self.sent_number <= number or not self._sent:
            self._sent_more.clear()
            await self._sent_more.wait()

    async def wait_half_sent(self) -> None:
        """Wait until half of what may be sent without a receipt was sent."""
        await self._half_sent.wait()

    def confirm(self, number: int) -> None:
        """Forget what the master has read: all messages up to *number*."""
        while self._sent and self._sent[0].number <= number:
            entry = self._sent.popleft()
            self._sent_bytes -= len(entry.text)
            self._forget(entry)
        if self._sent_bytes < self._window_bytes // 2:
            self._half_sent.clear()
        self._wake.set()
        self._settle()

    def rewind(self, is_wanted: Callable[[AgentMessage], bool]) -> None:
        """Get ready for a new connection: what was sent and not confirmed is to be sent again.

        Args:
            is_wanted: Says of each message whether the master still has use for it.
        """
        entries = [*self._sent, *self._waiting]
        self._sent.clear()
        self._sent_bytes = 0
        self._half_sent.clear()
        self._waiting.clear()
        for entry in entries:
            if is_wanted(entry.message):
                self._waiting.append(entry)
            else:
                self._forget(entry)
        self._settle()
        if self._waiting:
            self._wake.set()

    def _add(self, entry: Entry) -> None:
        self._waiting.append(entry)
        self._empty.clear()
        self._wake.set()

    def _forget(self, entry: Entry) -> None:
        if isinstance(entry.message, ContainerLog):
            if entry.message.output is None:
                self._notes -= 1
            else:
                self._output_bytes -= len(entry.text)
        if entry.on_read is not None:
            entry.on_read()

    def _settle(self) -> None:
        """Tell who waits for room or for the end, and own up to what was dropped."""
        if self._output_bytes < self._room_bytes:
            self._roomy.set()
        if self._dropped and self._notes < self._max_notes // 2:
            dropped, self._dropped = self._dropped, {}
            for example, number in dropped.values():
                text = f"{number} lines of the agent are missing here: the master took none"
                self.put_note(replace(example, time=datetime.now(UTC), text=text, level="WARNING"))
        if not self._sent and not self._waiting:
            self._empty.set()
