"""All that comes from one allocation, in two lanes: signals, which are few and urgent, and logs."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from shipway_common.files import write_atomic
from shipway_common.logsetup import log_context
from shipway_launcher.relay.delivery import Delivery
from shipway_launcher.relay.errors import StreamRefused
from shipway_launcher.relay.journal import Message
from shipway_launcher.relay.lane import Lane, LaneLimits
from shipway_launcher.relay.master import MasterRpc, Metadata

log = logging.getLogger(__name__)

_STREAM_FILE = "stream.json"
_SEGMENTS = 8  # a lane at its limit drops this part of it at once
_LOGS_LINGER_S = 0.05
_SIGNALS = LaneLimits(total_bytes=None, segment_bytes=1 << 30, keeps_delivered=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose messages a stream holds: an allocation, and the token it speaks with."""

    allocation_id: str
    metadata: Metadata


class Stream:
    """The messages of one owner. Enter the spool, not this."""

    def __init__(self, owner: Owner, folder: Path, limit_bytes: int) -> None:
        self.owner, self.folder = owner, folder
        self.refused: str | None = None
        """What the master said when it refused the token; nothing is taken any more."""
        self.used_s = time.time()
        self.logs = Lane(
            folder,
            "logs",
            LaneLimits(
                total_bytes=limit_bytes,
                segment_bytes=max(1, limit_bytes // _SEGMENTS),
                keeps_delivered=False,
                linger_s=_LOGS_LINGER_S,
            ),
        )
        self.signals = Lane(folder, "signals", _SIGNALS)
        self._known: dict[str, asyncio.Future[None] | None] = {}  # None: it is on disk

    @classmethod
    def load(cls, folder: Path, limit_bytes: int) -> Stream:
        """Take up the stream of an earlier run; blocking.

        Raises:
            OSError: The folder cannot be read.
            ValueError: Its files are damaged or of a newer version.
        """
        try:
            state = json.loads((folder / _STREAM_FILE).read_bytes())
            if state["version"] != 1:
                raise ValueError(f"{folder} is of version {state['version']}, not 1")
            metadata = tuple((name, value) for name, value in state["metadata"])
            owner = Owner(allocation_id=state["allocation_id"], metadata=metadata)
            stream = cls(owner, folder, limit_bytes)
            stream.refused = state["refused"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{folder / _STREAM_FILE} is damaged: {error!r}") from error
        stream.used_s = max(path.stat().st_mtime for path in folder.iterdir())
        stream.open()
        return stream

    def create(self) -> None:
        """Make the folder of a new stream; blocking.

        Raises:
            OSError: It cannot be made.
        """
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._save()
        self.open()

    def open(self) -> None:
        """Read what is on disk; blocking."""
        self.logs.load()
        for key in self.signals.load():
            self._known[key] = None

    async def put_logs(self, message: Message) -> None:
        """Keep log lines until they are delivered.

        Raises:
            SpoolFailed: They could not be written.
            StreamRefused: The master does not know the token any more.
        """
        self._use()
        await self.logs.put(message)

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
        written = self._known[message.key] = asyncio.get_running_loop().create_future()
        try:
            await self.signals.put(message)
        except BaseException as error:
            del self._known[message.key]
            if isinstance(error, Exception):
                written.set_exception(error)
                written.exception()  # whoever waits gets it; if nobody does, that is no news
            else:
                written.cancel()
            raise
        written.set_result(None)
        self._known[message.key] = None
        return True

    async def run(self, master: MasterRpc) -> None:
        """Write and deliver until `finish` is called or the token is refused."""
        if self.refused is not None:
            return
        delivery = Delivery(master=master, metadata=self.owner.metadata)
        writers: list[asyncio.Task[None]] = []
        with log_context(allocation_id=self.owner.allocation_id):
            async with asyncio.TaskGroup() as group:
                writers = [group.create_task(lane.run_writer()) for lane in self._lanes]
                try:
                    async with asyncio.TaskGroup() as deliveries:
                        for lane in self._lanes:
                            deliveries.create_task(lane.run_delivery(delivery.deliver))
                except* StreamRefused as refused:
                    await self._refuse(str(refused.exceptions[0]))
                finally:
                    for writer in writers:
                        writer.cancel()

    def finish(self) -> None:
        """Let `run` end once what is under way is delivered and noted."""
        for lane in self._lanes:
            lane.finish()

    @property
    def _lanes(self) -> tuple[Lane, Lane]:
        return self.signals, self.logs

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
        await asyncio.to_thread(self._save)
        for lane in self._lanes:
            await lane.clear()

    def _save(self) -> None:
        state = {
            "version": 1,
            "allocation_id": self.owner.allocation_id,
            "metadata": self.owner.metadata,
            "refused": self.refused,
        }
        write_atomic(self.folder / _STREAM_FILE, json.dumps(state).encode())
