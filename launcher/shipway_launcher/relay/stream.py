"""All that comes from one allocation: signals, which are few and urgent, logs, and metrics.

Each kind has a lane of its own, so that none waits for another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from pathlib import Path

from shipway_common.logsetup import log_context
from shipway_launcher.relay.delivery import Delivery
from shipway_launcher.relay.errors import BadRequest, SpoolFailed, StreamRefused
from shipway_launcher.relay.gathering import Answer, Gathering, GatherTiming, master_request
from shipway_launcher.relay.journal import Message
from shipway_launcher.relay.lane import Lane, LaneLimits
from shipway_launcher.relay.master import MasterRpc
from shipway_launcher.relay.messages import POST_LOGS, own_line
from shipway_launcher.relay.newest import NewestLines
from shipway_launcher.relay.ranks import MOST_RANKS, Ranks
from shipway_launcher.relay.settings import GatherSettings
from shipway_launcher.relay.streamfile import Owner, last_use_s, load_owner, save_owner
from shipway_proto.determined.api.v1 import task_pb2 as api_task
from shipway_proto.determined.api.v1 import trial_pb2 as api_trial
from shipway_proto.determined.log.v1 import log_pb2
from shipway_proto.determined.task.v1.task_pb2 import TaskLog

log = logging.getLogger(__name__)

_SEGMENTS = 8  # a lane at its limit drops this part of it at once
_LOGS_LINGER_S = 0.05
_OWN_LINES = 64  # of the relay's own, that wait for the disk
_RUNNING = "running:"
_SIGNALS_KEPT = 1 << 18
_SIGNALS = LaneLimits(total_bytes=None, segment_bytes=1 << 30, keeps_delivered=True)


class Stream:
    """The messages of one owner. Enter the spool, not this."""

    def __init__(
        self, owner: Owner, folder: Path, limit_bytes: int, gather: GatherSettings
    ) -> None:
        self.owner, self.folder = owner, folder
        self.refused: str | None = None
        """What the master said when it refused the token; nothing is taken any more."""
        self.used_s = time.time()
        bulk = LaneLimits(
            total_bytes=limit_bytes,
            segment_bytes=max(1, limit_bytes // _SEGMENTS),
            keeps_delivered=False,
            linger_s=_LOGS_LINGER_S,
        )
        self.logs = Lane(folder, "logs", bulk)
        self.metrics = Lane(folder, "metrics", bulk)
        self.signals = Lane(folder, "signals", _SIGNALS)
        self.newest = NewestLines()
        self.ranks = Ranks(late_after_s=gather.running_within_s, on_late=self._say)
        self.gathering = Gathering(
            folder,
            GatherTiming(
                slow_after_s=gather.slow_after_s,
                return_within_s=gather.return_within_s,
                give_up_after_s=gather.give_up_after_s,
            ),
            nodes=self.ranks.nodes,
            on_complete=self._tell_gathered,
            on_trouble=self._say,
        )
        self._own_lines: asyncio.Queue[bytes] = asyncio.Queue(_OWN_LINES)
        self._known: dict[str, asyncio.Future[None] | None] = {}  # None: it is on disk

    @classmethod
    def load(cls, folder: Path, limit_bytes: int, gather: GatherSettings) -> Stream:
        """Take up the stream of an earlier run; blocking.

        Raises:
            OSError: The folder cannot be read.
            ValueError: Its files are damaged or of a newer version.
        """
        owner, refused = load_owner(folder)
        stream = cls(owner, folder, limit_bytes, gather)
        stream.refused, stream.used_s = refused, last_use_s(folder)
        stream.open()
        return stream

    def create(self) -> None:
        """Make the folder of a new stream; blocking.

        Raises:
            OSError: It cannot be made.
        """
        self.folder.mkdir(mode=0o700, exist_ok=True)
        save_owner(self.folder, self.owner, self.refused)
        self.open()

    def open(self) -> None:
        """Read what is on disk; blocking."""
        self.logs.load(self._recall_lines)
        self.metrics.load()
        self.signals.load(self._recall_signal)
        self.gathering.load()

    def _recall_lines(self, message: Message, is_delivered: bool) -> None:
        if not is_delivered and message.rpc == POST_LOGS:
            self.newest.note(api_task.PostTaskLogsRequest.FromString(message.request))

    def _recall_signal(self, message: Message, is_delivered: bool) -> None:
        self._known[message.key] = None
        if message.key.startswith(_RUNNING):
            self.ranks.remember(api_trial.NotifyContainerRunningRequest.FromString(message.request))

    async def put_logs(self, request: api_task.PostTaskLogsRequest) -> None:
        """Keep log lines until they are delivered.

        Raises:
            SpoolFailed: They could not be written.
            StreamRefused: The master does not know the token any more.
        """
        self._use()
        message = Message(
            rpc=POST_LOGS, request=request.SerializeToString(), lines=len(request.logs)
        )
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        written.add_done_callback(lambda _: self._note_newest(request, written))
        await self.logs.put(message, written)

    def _note_newest(
        self, request: api_task.PostTaskLogsRequest, written: asyncio.Future[None]
    ) -> None:
        if written.exception() is None:
            self.newest.note(request)

    async def find_newest(self, container_id: str) -> TaskLog | None:
        """Return the newest line that was taken from a container; errors as of `put_logs`."""
        self._use()
        await self.logs.settle()
        return self.newest.find(container_id)

    async def put_metrics(self, message: Message) -> None:
        """Keep readings until they are delivered; errors as of `put_logs`."""
        self._use()
        await self.metrics.put(message)

    async def put_running(self, notice: api_trial.NotifyContainerRunningRequest) -> None:
        """Keep the word that a rank runs; errors as of `put_logs`.

        Raises:
            BadRequest: There can be no such rank.
        """
        if not 0 <= notice.rank < max(1, notice.num_peers) <= MOST_RANKS:
            raise BadRequest(f"there can be no rank {notice.rank} of {notice.num_peers}")
        message = Message(
            rpc="NotifyContainerRunning",
            key=f"{_RUNNING}{notice.rank}",
            request=notice.SerializeToString(),
        )
        if await self.put_signal(message):
            log.info(
                "container running",
                extra={"allocation_id": self.owner.allocation_id, "rank": notice.rank},
            )
            self.ranks.note(notice)

    async def gather(self, request: api_trial.AllocationAllGatherRequest) -> Answer:
        """Wait for all ranks; errors as of `Gathering.join`, and `StreamRefused`."""
        self._use()
        return await self.gathering.join(request)

    async def put_signal(self, message: Message) -> bool:
        """Keep a signal until it is delivered, unless one with the same key came before.

        Returns:
            Whether it is new.

        Raises:
            SpoolFailed: It could not be written.
            StreamRefused: The master does not know the token any more.
        """
        self._use()
        if message.key in self._known:
            before = self._known[message.key]
            if before is not None:
                await asyncio.shield(before)
            return False
        if len(self._known) >= _SIGNALS_KEPT:
            raise SpoolFailed(f"{_SIGNALS_KEPT} signals of one allocation are kept already")
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        written.add_done_callback(lambda _: self._note_signal(message.key, written))
        self._known[message.key] = written
        await self.signals.put(message, written)
        return True

    def _note_signal(self, key: str, written: asyncio.Future[None]) -> None:
        if written.exception() is None:
            self._known[key] = None
        else:
            del self._known[key]

    async def run(self, master: MasterRpc) -> None:
        """Write and deliver until `finish` is called or the token is refused."""
        if self.refused is not None:
            return
        delivery = Delivery(master=master, metadata=self.owner.metadata)
        writers: list[asyncio.Task[None]] = []
        with log_context(allocation_id=self.owner.allocation_id):
            async with asyncio.TaskGroup() as group:
                self.ranks.watch()
                writers = [group.create_task(self._write_own_lines())]
                writers += [group.create_task(lane.run_writer()) for lane in self._lanes]
                try:
                    async with asyncio.TaskGroup() as deliveries:
                        for lane in self._lanes:
                            deliveries.create_task(lane.run_delivery(delivery.deliver))
                except* StreamRefused as refused:
                    await self._refuse(str(refused.exceptions[0]))
                finally:
                    self.ranks.close()
                    self.gathering.close()
                    for writer in writers:
                        writer.cancel()

    @property
    def is_delivered(self) -> bool:
        """Whether the master has all of it, or the token is refused."""
        return self.refused is not None or all(lane.is_empty for lane in self._lanes)

    @property
    def may_sleep(self) -> bool:
        """Whether nothing would be missed if it lay on disk alone until the next call."""
        is_waiting = self.gathering.is_under_way or self.ranks.is_waiting
        return self.is_delivered and not is_waiting and self._own_lines.empty()

    async def wait_delivered(self) -> None:
        """Wait until the master has all of it, or the token is refused."""
        for lane in self._lanes:
            await lane.wait_empty()

    def finish(self) -> None:
        """Let `run` end once what is under way is delivered and noted."""
        for lane in self._lanes:
            lane.finish()

    @property
    def bulk(self) -> tuple[Lane, ...]:
        """What may be much, and gives way where there is no room."""
        return self.logs, self.metrics

    @property
    def _lanes(self) -> tuple[Lane, ...]:
        return self.signals, *self.bulk

    def _say(self, text: str) -> None:
        """Tell whoever reads the task's log."""
        log.warning(text, extra={"allocation_id": self.owner.allocation_id})
        line = own_line(
            self.owner.task,
            self.owner.allocation_id,
            text,
            level=log_pb2.LOG_LEVEL_WARNING,
        )
        with contextlib.suppress(asyncio.QueueFull):  # it is in our own log
            self._own_lines.put_nowait(line)

    async def _write_own_lines(self) -> None:
        while True:
            line = await self._own_lines.get()
            try:
                await self.logs.put(Message(rpc=POST_LOGS, request=line, lines=1))
            except SpoolFailed as error:
                log.warning("a line for a task's log is lost", extra={"reason": str(error)})

    async def _tell_gathered(self, answer: Answer) -> None:
        """Tell the master that all ranks are there, once per group."""
        message = Message(
            rpc="AllocationAllGather",
            key=f"gather:{answer.key}",
            request=master_request(answer, self.owner.allocation_id),
        )
        try:
            await self.put_signal(message)
        except SpoolFailed as error:  # the ranks can do without the master's knowing
            log.error(
                "the master is not told that all ranks are there",
                extra={"allocation_id": self.owner.allocation_id, "reason": str(error)},
            )

    def _use(self) -> None:
        if self.refused is not None:
            raise StreamRefused(self.refused)
        self.used_s = time.time()

    async def _refuse(self, reason: str) -> None:
        self.refused = reason
        log.error(
            "the master refused the allocation's token; what is not delivered is dropped",
            extra={"reason": reason, "lines": self.logs.backlog_lines},
        )
        self.gathering.refuse(StreamRefused(reason))
        await asyncio.to_thread(save_owner, self.folder, self.owner, reason)
        for lane in self._lanes:
            await lane.clear()
