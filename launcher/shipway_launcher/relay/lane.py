"""A queue on disk: what was put in comes out in order, and once, whatever is restarted meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shipway_launcher.relay.errors import SpoolFailed
from shipway_launcher.relay.journal import (
    FIRST_OFFSET,
    Journal,
    Message,
    append_messages,
    create_journal,
    load_journal,
    read_messages,
)
from shipway_launcher.relay.statefile import StateFile

log = logging.getLogger(__name__)

_WAITING = 256  # requests that wait for the disk; more wait for their turn in `put`
_BATCH_BYTES = 1 << 20
_BATCH_COUNT = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLimits:
    """How much a lane keeps, and in which pieces."""

    total_bytes: int | None
    """Beyond it the oldest piece is dropped; None keeps all."""
    segment_bytes: int
    """Size at which a new file is begun; what is dropped or freed at once."""
    keeps_delivered: bool
    """Keep delivered messages, so that their keys are still known after a restart."""
    linger_s: float = 0.0
    """How long the first message after a pause waits for others to go with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The next messages to deliver."""

    messages: Sequence[Message]
    gap_lines: int
    """Log lines that were dropped before them, for want of space."""
    number: int
    end: int
    is_doubtful: bool = False
    """An earlier run of the relay may have delivered some of it, and ended before it noted that."""

    @property
    def lines(self) -> int:
        """Log lines in the messages."""
        return sum(message.lines for message in self.messages)


Deliver = Callable[[Batch], Awaitable[bool]]
"""Returns when the batch is the master's, or was given up with a word about it.

What it returns says whether the master already had some of a doubtful one.
"""
Visit = Callable[[Message, bool], None]
"""Is shown a message of an earlier run, and whether it is noted as delivered."""
_Waiting = tuple[Message | None, asyncio.Future[None]]
"""What is to be written, and what is told of it; None: nothing, only tell when it is its turn."""


class Lane:
    """One queue. `put` may be called once `run_writer` and `run_delivery` are running."""

    def __init__(self, folder: Path, name: str, limits: LaneLimits) -> None:
        self._folder, self._name, self._limits = folder, name, limits
        self._state = StateFile(folder / f"{name}.state")
        self._segments: dict[int, Journal] = {}
        self._number, self._offset = 1, FIRST_OFFSET  # the next message to deliver
        self._delivered_lines = 0  # of the segment that holds it
        self._gap_lines = 0
        self._is_doubtful = False
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue(_WAITING)
        self._files = asyncio.Lock()  # held by whoever makes or removes segments
        self._arrived = asyncio.Event()
        self._empty = asyncio.Event()
        self._is_finishing = False
        self._is_closed = False

    @property
    def backlog_bytes(self) -> int:
        """What waits for delivery, to within one segment's delivered part."""
        return max(0, sum(segment.size_bytes for segment in self._undelivered()) - self._offset)

    @property
    def backlog_lines(self) -> int:
        """Log lines that wait for delivery."""
        lines = sum(segment.lines for segment in self._undelivered())
        return lines - self._delivered_lines + self._gap_lines

    def load(self, visit: Visit | None = None) -> None:
        """Take up what an earlier run left; blocking, before anything else.

        Args:
            visit: Is shown all messages that are still on disk, delivered or not, in order.

        Raises:
            OSError: The folder cannot be read or written.
            ValueError: A file in it is not ours or of a newer version.
        """
        state = self._state.load()
        if state is not None:
            self._number, self._offset = state["segment"], state["offset"]
            self._delivered_lines, self._gap_lines = state["delivered_lines"], state["gap_lines"]
        for path in sorted(self._folder.glob(f"{self._name}-*.journal")):
            number = int(path.stem.rpartition("-")[2])
            if number < self._number and not self._limits.keeps_delivered:
                path.unlink()  # delivered; the run that delivered it ended before it could do this
                continue
            self._segments[number] = load_journal(path, self._visitor(number, visit))
            self._is_doubtful = True
        if not self._segments:
            self._segments[self._number] = create_journal(self._path(self._number))
            self._go_to_segment(self._number)
        if self._number not in self._segments:
            self._go_to_segment(min((n for n in self._segments if n > self._number), default=0))
        self._offset = min(self._offset, self._segments[self._number].size_bytes)
        self._arrived.set()

    def _visitor(self, number: int, visit: Visit | None) -> Callable[[Message, int], None]:
        def show(message: Message, end: int) -> None:
            if visit is not None:
                visit(message, (number, end) <= (self._number, self._offset))

        return show

    async def put(self, message: Message, written: asyncio.Future[None] | None = None) -> None:
        """Add a message; when this returns, it is on disk and will be delivered.

        A caller who is cancelled does not take it back: it may be on its way to the disk.

        Args:
            message: What to add.
            written: Is told what became of it, also if the caller is cancelled.

        Raises:
            SpoolFailed: It is not, and nothing of it is kept.
        """
        await self._wait_turn(message, written or asyncio.get_running_loop().create_future())

    async def settle(self) -> None:
        """Wait until all that was handed over before is on disk, or refused.

        Raises:
            SpoolFailed: The relay is stopping.
        """
        await self._wait_turn(None, asyncio.get_running_loop().create_future())

    async def _wait_turn(self, message: Message | None, written: asyncio.Future[None]) -> None:
        if not self._is_closed:
            try:
                await self._waiting.put((message, written))
            except asyncio.CancelledError:
                written.set_exception(SpoolFailed("the caller left before it was written"))
                written.exception()  # whoever waits gets it; if nobody does, that is no news
                raise
        if self._is_closed and not written.done():
            written.set_exception(SpoolFailed("the relay is stopping"))
        await asyncio.shield(written)

    async def run_writer(self) -> None:
        """Write what `put` hands over, as many messages at once as wait; until cancelled."""
        group: list[_Waiting] = []
        self._is_closed = False
        try:
            while True:
                group = [await self._waiting.get()]
                while len(group) < _WAITING and not self._waiting.empty():
                    group.append(self._waiting.get_nowait())
                # What was refused while it waited must not be kept after all.
                wanted = [message for message, written in group if not written.done()]
                messages = [message for message in wanted if message is not None]
                failure = await self._write_group(messages) if messages else None
                self._empty.clear()  # until the delivery has seen that there is nothing
                self._arrived.set()
                _answer(group, failure)
        finally:
            self._is_closed = True
            while not self._waiting.empty():
                group.append(self._waiting.get_nowait())
            _answer(group, SpoolFailed("the relay is stopping"))

    async def run_delivery(self, deliver: Deliver) -> None:
        """Deliver batch after batch and note each on disk; until `finish` is called."""
        while not self._is_finishing:
            batch = await self._next()
            if batch is None:
                self._empty.set()
                self._arrived.clear()
                await self._arrived.wait()
                await asyncio.sleep(self._limits.linger_s)
                continue
            had_some = await deliver(batch)
            # A power loss takes back some notes, so go on asking while the master knows more.
            self._is_doubtful = self._is_doubtful and had_some
            await self._done(batch)

    @property
    def is_empty(self) -> bool:
        """Whether all that was put in is delivered, and nobody is putting anything in."""
        return self._empty.is_set() and self._waiting.empty() and not self._files.locked()

    async def wait_empty(self) -> None:
        """Wait until all that was put in is delivered; `run_delivery` must be running."""
        await self._empty.wait()

    def finish(self) -> None:
        """Let the delivery end after the batch that is under way, so that it is noted too."""
        self._is_finishing = True
        self._arrived.set()

    async def drop_oldest(self) -> int:
        """Make room: drop the oldest segment that is not being written; returns its bytes."""
        async with self._files:
            return await self._drop_first()

    async def clear(self) -> None:
        """Forget all that is not delivered, because it never can be."""
        async with self._files:
            last = max(self._segments)
            self._number, self._offset = last, self._segments[last].size_bytes
            self._delivered_lines, self._gap_lines = self._segments[last].lines, 0
            await asyncio.to_thread(self._save)
            self._empty.set()

    async def _write_group(self, messages: Sequence[Message]) -> SpoolFailed | None:
        async with self._files:
            try:
                await asyncio.to_thread(self._write, messages)
            except OSError as error:
                return SpoolFailed(f"cannot write below {self._folder}: {error}")
            limit = self._limits.total_bytes
            while limit is not None and self.backlog_bytes > limit and await self._drop_first():
                pass
        return None

    def _write(self, messages: Sequence[Message]) -> None:
        last = max(self._segments)
        if self._segments[last].size_bytes >= self._limits.segment_bytes:
            last += 1
            self._segments[last] = create_journal(self._path(last))
        append_messages(self._segments[last], messages)

    async def _next(self) -> Batch | None:
        async with self._files:
            while self._offset >= (segment := self._segments[self._number]).size_bytes:
                if self._number == max(self._segments):
                    return None
                await self._advance()
            messages, end = await asyncio.to_thread(
                read_messages,
                segment,
                self._offset,
                limit_bytes=_BATCH_BYTES,
                limit_count=_BATCH_COUNT,
            )
            if not messages:
                log.error(
                    "a spool file was damaged while in use; the rest of it is skipped",
                    extra={"file": str(segment.path), "offset": self._offset},
                )
                end = segment.size_bytes
            return Batch(
                messages=messages,
                gap_lines=self._gap_lines,
                number=self._number,
                end=end,
                is_doubtful=self._is_doubtful,
            )

    async def _done(self, batch: Batch) -> None:
        async with self._files:
            if batch.messages:
                self._gap_lines -= batch.gap_lines
            if batch.number == self._number:
                self._offset = batch.end
                self._delivered_lines += batch.lines
            else:  # dropped and counted as lost while it was being delivered after all
                self._gap_lines = max(0, self._gap_lines - batch.lines)
            await asyncio.to_thread(self._save)
            await self._free_delivered()

    async def _free_delivered(self) -> None:
        """Begin anew once all is delivered and the file is worth giving back."""
        if self._limits.keeps_delivered or self._number != max(self._segments):
            return
        segment = self._segments[self._number]
        if (
            self._offset < segment.size_bytes
            or segment.size_bytes < self._limits.segment_bytes // 8
        ):
            return
        try:
            self._segments[self._number + 1] = await asyncio.to_thread(
                create_journal, self._path(self._number + 1)
            )
        except OSError as error:
            log.warning("cannot begin a new spool file", extra={"reason": str(error)})
            return
        await self._advance()

    async def _advance(self) -> None:
        """Leave a delivered segment for the one after it."""
        left = self._number
        self._go_to_segment(min(number for number in self._segments if number > left))
        await asyncio.to_thread(self._save)
        if not self._limits.keeps_delivered:
            await asyncio.to_thread(self._segments.pop(left).path.unlink)

    async def _drop_first(self) -> int:
        first = self._number
        if first == max(self._segments):
            return 0
        segment = self._segments[first]
        lost = segment.lines - self._delivered_lines
        self._gap_lines += lost
        log.warning(
            "the oldest of a full spool is dropped",
            extra={"lines": lost, "file": str(segment.path)},
        )
        await self._advance()
        return segment.size_bytes

    def _undelivered(self) -> list[Journal]:
        # A copy at once, for the writer's thread may add one meanwhile.
        return [
            segment for number, segment in list(self._segments.items()) if number >= self._number
        ]

    def _go_to_segment(self, number: int) -> None:
        if number == 0:  # all files are older than the record of what was delivered
            number = max(self._segments)
            self._number, self._offset = number, self._segments[number].size_bytes
            self._delivered_lines = self._segments[number].lines
        else:
            self._number, self._offset, self._delivered_lines = number, FIRST_OFFSET, 0

    def _save(self) -> None:
        """Note what is delivered; a full disk must not stop the delivery that frees it."""
        try:
            self._state.save(
                segment=self._number,
                offset=self._offset,
                delivered_lines=self._delivered_lines,
                gap_lines=self._gap_lines,
            )
        except OSError as error:
            log.warning(
                "cannot note what was delivered; a restart now would deliver it again",
                extra={"folder": str(self._folder), "reason": str(error)},
            )

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._name}-{number:08d}.journal"


def _answer(group: Sequence[_Waiting], failure: SpoolFailed | None) -> None:
    for _, written in group:
        if written.done():
            continue
        if failure is None:
            written.set_result(None)
        else:
            written.set_exception(failure)
            written.exception()  # whoever waits gets it; if nobody does, that is no news
