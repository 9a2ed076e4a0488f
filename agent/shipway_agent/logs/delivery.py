"""Batches to the master, each once and in order, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from shipway_agent.errors import MasterError
from shipway_agent.logs.batch import Batch, own_line
from shipway_agent.logs.encode import LogSource
from shipway_agent.logs.forward import OutputSink
from shipway_agent.logs.journal import Journal, Sent
from shipway_agent.logs.routes import TaskRoute
from shipway_agent.runtimes.spec import Stream
from shipway_agent.taskapi import CallFailed, CallRefused
from shipway_common.backoff import backoff_delays_s

log = logging.getLogger(__name__)

_TOKEN_REFUSALS = frozenset({401, 403, 404})  # 404: the master knows no such task
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to bear what."""

    first_retry_s: float = 0.5
    longest_retry_s: float = 10.0
    internal_errors: int = 6
    """So many in a row for one batch, and a line of it is taken for the cause."""


class LogDelivery:
    """Delivers the output of one container by the task's own token.

    Where the token is refused, the rest goes to a sink that needs none; so it does when somebody
    gives up waiting for the master's API.
    """

    def __init__(
        self,
        route: TaskRoute,
        source: LogSource,
        journal: Journal | None,
        *,
        instead: OutputSink | None,
        on_note: Callable[[str], None],
        patience: Patience | None = None,
    ) -> None:
        """Make a delivery.

        Args:
            route: Posts a batch once.
            source: Whose output it is.
            journal: Survives this process; None: this process does not outlive the container.
            instead: Takes the rest if *route* does not; None: it is lost, with a note.
            on_note: Told what whoever reads the task's log should know.
        """
        self._route, self._source, self._journal = route, source, journal
        self._instead, self._on_note = instead, on_note
        self._patience = patience or Patience()
        self._begins: Mapping[Stream, int] = {}
        self._refused = False
        self._given_up = asyncio.Event()
        self._is_failing = False
        self._is_sending = False
        self.lost = 0
        """Lines that nobody took."""

    @property
    def is_blocked(self) -> bool:
        """Whether the master's API has not answered yet, or the sink in its place is blocked."""
        if self._refused:
            return self._instead is not None and self._instead.is_blocked
        return self._is_failing or self._is_sending

    def give_up(self) -> bool:
        """Stop waiting for the master's API; returns whether another way is left to try."""
        is_new = self._instead is not None and not self._refused and not self._given_up.is_set()
        self._given_up.set()
        return is_new

    async def recover(self, delivered: Mapping[Stream, int]) -> tuple[dict[Stream, int], int]:
        """Find out how much the master has of what an earlier process sent.

        Args:
            delivered: Offsets up to which it surely has each stream.

        Returns:
            The offsets to go on from, and the time that all new lines must be later than.
        """
        found = await self._find_sent()
        if found is None:
            self._begins = dict(delivered)
            return dict(delivered), 0
        offsets = found.ends if await self._has_arrived(found) else found.begins
        begins = dict(delivered)
        for stream, end in offsets.items():
            begins[stream] = max(end, begins.get(stream, 0))
        self._begins = begins
        return dict(begins), found.time_us + 1

    async def send(self, batch: Batch, on_delivered: Callable[[], None]) -> None:
        """Deliver a batch, however long the master is away; see `OutputSink.send`."""
        if not self._refused:
            ends: dict[Stream, int] = {**self._begins, **batch.ends}
            await self._note_sent(Sent(begins=self._begins, ends=ends, time_us=_last_us(batch)))
            self._is_sending = True
            try:
                await self._deliver(batch)
            except _NoWay as error:
                self._refused = True
                self._say_refused(error)
            else:
                self._begins = ends
                on_delivered()
                return
            finally:
                self._is_sending = False
        if self._instead is None:
            self.lost += batch.count
        else:
            await self._instead.send(batch, on_delivered)

    async def _has_arrived(self, sent: Sent) -> bool:
        """Find out whether the master has a batch of an earlier process."""
        if not sent.is_in_doubt:
            return True
        for delay_s in self._delays():
            try:
                is_stored = await self._is_stored(sent.time_us)
            except CallFailed as error:
                self._note_failing(error)
            else:
                self._note_working()
                return is_stored
            try:
                await self._pause(delay_s)
            except _NoWay:
                return False
        raise AssertionError("delays never end")

    def _delays(self) -> Iterator[float]:
        return backoff_delays_s(
            first_s=self._patience.first_retry_s, limit_s=self._patience.longest_retry_s
        )

    async def _deliver(self, batch: Batch, *, is_whole: bool = True) -> None:
        """Post until it is taken.

        Args:
            is_whole: It is all that has its time, so that the master can be asked for it.

        Raises:
            _NoWay: The task's token is no good, or somebody gave up.
        """
        internal_errors, doubt = 0, False
        for delay_s in self._delays():
            try:
                if doubt and is_whole and await self._is_stored(_last_us(batch)):
                    self._route.note_arrived()
                else:
                    await self._route.post(batch)
            except CallFailed as error:
                self._note_failing(error)
                doubt = doubt or error.may_have_worked
                internal_errors += error.is_internal
                if internal_errors >= self._patience.internal_errors:
                    if await self._find_fault(batch, error):
                        return
                    internal_errors = 0
            except CallRefused as error:
                if error.status in _TOKEN_REFUSALS:
                    raise _NoWay(str(error)) from error
                if await self._find_fault(batch, error):
                    return
            else:
                self._note_working()
                return
            await self._pause(delay_s)

    async def _find_fault(self, batch: Batch, reason: MasterError) -> bool:
        """Find the line that is at fault, so that the others do not suffer.

        Returns:
            Whether the batch is dealt with; False: it is not for one of its lines.
        """
        if batch.count > 1:
            # The parts have the same time, so nothing could be told from it after a crash.
            sent = Sent(begins=self._begins, ends=self._begins, time_us=_last_us(batch))
            await self._note_sent(sent)
            for half in batch.halves():
                await self._deliver(half, is_whole=False)
            return True
        place = batch.parts[0]
        size = len(place.lines.texts[0]) - 1
        line = own_line(f"a line of {size} bytes is missing here: the master refused it", place)
        try:
            await self._route.post(line)
        except CallFailed as error:
            self._note_failing(error)
            return False
        except CallRefused as error:
            if error.status in _TOKEN_REFUSALS:
                raise _NoWay(str(error)) from error
            self.lost += 1
            log.error("the master refuses lines of our own, too: %s", error)
        else:
            self._note_working()
        log.warning("the master refused a line of the task's log: %s", reason)
        return True

    async def _pause(self, delay_s: float) -> None:
        try:
            async with asyncio.timeout(delay_s):
                await self._given_up.wait()
        except TimeoutError:
            return
        raise _NoWay("the task has ended, and the master's API did not answer in time")

    async def _is_stored(self, time_us: int) -> bool:
        """Ask the master whether it has the batch whose last line is of *time_us*.

        A master that refuses to say so is taken not to have it: twice is better than never.

        Raises:
            CallFailed: It cannot be asked now.
        """
        source = self._source
        query = {
            "limit": "1",
            "orderBy": "ORDER_BY_DESC",
            "allocationIds": source.allocation_id,
            "containerIds": source.container_id,
            "sources": "task",
        }
        api = await self._route.rest()
        try:
            answer = await api.get(f"/api/v1/tasks/{source.task_id}/logs", query)
            return newest_us(answer) >= time_us
        except (CallRefused, ValueError, KeyError, TypeError) as error:
            log.warning("whether lines arrived cannot be told, so they may come twice: %s", error)
            return False

    async def _find_sent(self) -> Sent | None:
        if self._journal is None:
            return None
        try:
            return await asyncio.to_thread(self._journal.find)
        except OSError as error:
            log.error("what was sent before cannot be told, so lines may come twice: %s", error)
            return None

    async def _note_sent(self, sent: Sent) -> None:
        if self._journal is None:
            return
        try:
            await asyncio.to_thread(self._journal.write, sent)
        except OSError as error:  # a full disk must not hold up a task
            log.error("what is being sent cannot be written down: %s", error)

    def _note_failing(self, error: CallFailed) -> None:
        if not self._is_failing:
            self._is_failing = True
            log.warning("task log not delivered; trying again: %s", error)

    def _note_working(self) -> None:
        if self._is_failing:
            self._is_failing = False
            log.info("task log is delivered again")

    def _say_refused(self, error: MasterError) -> None:
        if self._instead is None:
            log.warning("the master takes no more of the task's log: %s", error)
        else:
            log.warning("the rest of the task's log goes by the agent's websocket: %s", error)
            self._on_note("the rest of the output comes by way of the agent")


class _NoWay(MasterError):
    """This way leads nowhere any more."""


def newest_us(answer: bytes) -> int:
    """Read the time of the line in an answer of `TaskLogs`, in microseconds since 1970; 0: none."""
    if not answer.strip():
        return 0
    text = json.loads(answer.splitlines()[0])["result"]["timestamp"]
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)


def _last_us(batch: Batch) -> int:
    return batch.parts[-1].time_us
