"""All streams: found again after a restart, made when a new token comes, forgotten in the end."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import shutil
import time
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from shipway_launcher.relay.errors import BadRequest, SpoolFailed
from shipway_launcher.relay.master import MasterRpc
from shipway_launcher.relay.settings import GatherSettings, SpoolSettings
from shipway_launcher.relay.stream import Stream
from shipway_launcher.relay.streamfile import Owner, is_asleep, last_use_s, note_asleep, wake

log = logging.getLogger(__name__)

_STREAMS = 20_000
"""More owners than this at once are no cluster but a flood."""
_REFUSED_KEEP_S = 3600.0
_DELIVERED_KEEP_S = 86_400.0
"""So long it is known what an allocation has said, of which all is delivered."""
_RESTART_S = 5.0
_FINISH_S = 5.0
_LOOK_S = 1.0
_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class Spool:
    """The relay's memory on disk; to be entered, after the connection to the master."""

    def __init__(
        self,
        folder: Path,
        settings: SpoolSettings,
        gather: GatherSettings,
        master: MasterRpc,
        *,
        tidy_every_s: float = 5.0,
        awake_s: float = 600.0,
    ) -> None:
        """Prepare.

        Args:
            folder: Of its own; made if it is not there.
            settings: How much to keep.
            gather: How long to wait for ranks.
            master: To whom all goes.
            tidy_every_s: How often to look for what is too much, or too old.
            awake_s: How long a stream of which all is delivered stays in memory after its last call.
        """
        self._folder, self._settings, self._master = folder, settings, master
        self._gather = gather
        self._tidy_every_s, self._awake_s = tidy_every_s, awake_s
        self._streams: dict[str, Stream] = {}
        self._asleep: dict[str, float] = {}  # on disk alone; when each was last used
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._tidying: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._group = asyncio.TaskGroup()
        self._stack = AsyncExitStack()
        self._is_finishing = False

    async def __aenter__(self) -> Self:
        for name, stream in (await asyncio.to_thread(self._load)).items():
            self._streams[name] = stream
        await self._stack.enter_async_context(self._group)
        for name in self._streams:
            self._start(name)
        self._tidying = self._group.create_task(self._tidy_loop())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish what is being delivered at this moment; all else stays on disk."""
        self._is_finishing = True
        if self._tidying is not None:
            self._tidying.cancel()
        for stream in self._streams.values():
            stream.finish()
        if self._tasks and self._master.is_connected:
            await asyncio.wait(self._tasks.values(), timeout=_FINISH_S)
        for task in self._tasks.values():
            task.cancel()
        await self._stack.__aexit__(kind, error, trace)

    async def stream(self, owner: Owner) -> Stream:
        """Return the stream of *owner*, a new one if it never sent anything.

        Raises:
            BadRequest: The allocation's id holds what no such id holds.
            SpoolFailed: There is no room for another one.
        """
        name = folder_name(owner)
        async with self._opening:
            stream = self._streams.get(name)
            if stream is None:
                stream = self._streams[name] = await self._open(name, owner)
                self._start(name)
            stream.used_s = time.time()
            return stream

    async def _open(self, name: str, owner: Owner) -> Stream:
        folder, limit_bytes = self._folder / name, self._settings.allocation_mib << 20
        try:
            if name in self._asleep:
                await asyncio.to_thread(wake, folder)
                stream = await asyncio.to_thread(Stream.load, folder, limit_bytes, self._gather)
                del self._asleep[name]
                return stream
            if len(self._streams) + len(self._asleep) >= _STREAMS:
                raise SpoolFailed(f"{_STREAMS} allocations are kept already")
            stream = Stream(owner, folder, limit_bytes, self._gather)
            await asyncio.to_thread(stream.create)
        except (OSError, ValueError) as error:
            raise SpoolFailed(f"cannot make {folder}: {error}") from error
        return stream

    async def settle(self, allocation_id: str, *, limit_s: float) -> bool:
        """Wait until the master has all that an allocation sent, but not longer than *limit_s*.

        Returns:
            Whether it has. It has not, and is not waited for, if it is not there.
        """
        streams = [
            stream
            for stream in self._streams.values()
            if stream.owner.allocation_id == allocation_id and not stream.is_delivered
        ]
        if not streams:
            return True
        if not await self._master.is_there(limit_s=_LOOK_S):
            return False
        try:
            async with asyncio.timeout(limit_s):
                for stream in streams:
                    await stream.wait_delivered()
        except TimeoutError:
            return False
        return True

    def _load(self) -> dict[str, Stream]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        found: dict[str, Stream] = {}
        for folder in sorted(path for path in self._folder.iterdir() if path.is_dir()):
            try:
                if is_asleep(folder):
                    self._asleep[folder.name] = last_use_s(folder)
                    continue
                found[folder.name] = Stream.load(
                    folder, self._settings.allocation_mib << 20, self._gather
                )
            except (OSError, ValueError) as error:
                log.error(
                    "cannot take up what was kept for an allocation; look at the folder",
                    extra={"folder": str(folder), "reason": str(error)},
                )
        return found

    def _start(self, name: str) -> None:
        self._tasks[name] = self._group.create_task(self._run(self._streams[name]), name=name)

    async def _run(self, stream: Stream) -> None:
        while not self._is_finishing:
            try:
                await stream.run(self._master)
            except Exception:
                log.exception("a stream failed; it is tried again")
                await asyncio.sleep(_RESTART_S)
            else:
                return

    async def _tidy_loop(self) -> None:
        while True:
            await asyncio.sleep(self._tidy_every_s)
            try:
                await self._keep_total()
                await self._forget_old()
                await self._let_sleep()
            except Exception:
                log.exception("tidying the spool failed; it is tried again")

    async def _keep_total(self) -> None:
        limit = self._settings.total_mib << 20
        lanes = [lane for stream in self._streams.values() for lane in stream.bulk]
        while sum(lane.backlog_bytes for lane in lanes) > limit:
            if not await max(lanes, key=lambda lane: lane.backlog_bytes).drop_oldest():
                return

    async def _let_sleep(self) -> None:
        """Hold only those in memory of which something is to be expected."""
        for name, stream in list(self._streams.items()):
            async with self._opening:
                if time.time() - stream.used_s > self._awake_s and stream.may_sleep:
                    self._drop(name)
                    self._asleep[name] = stream.used_s
                    await asyncio.to_thread(note_asleep, stream.folder)

    async def _forget_old(self) -> None:
        now_s = time.time()
        for name, stream in list(self._streams.items()):
            keep_s = _REFUSED_KEEP_S if stream.refused else self._settings.keep_h * 3600
            if now_s - stream.used_s <= keep_s:
                continue
            async with self._opening:
                self._drop(name)
                if stream.logs.backlog_lines:
                    log.error(
                        "log lines dropped: they could not be delivered in time",
                        extra={
                            "allocation_id": stream.owner.allocation_id,
                            "lines": stream.logs.backlog_lines,
                        },
                    )
                await self._remove(name)
        for name, used_s in list(self._asleep.items()):
            if now_s - used_s > min(_DELIVERED_KEEP_S, self._settings.keep_h * 3600):
                async with self._opening:
                    if self._asleep.pop(name, None) is not None:
                        await self._remove(name)

    def _drop(self, name: str) -> None:
        del self._streams[name]
        self._tasks.pop(name).cancel()

    async def _remove(self, name: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder / name, ignore_errors=True)


def folder_name(owner: Owner) -> str:
    """Return the name of the folder that is an owner's alone.

    Raises:
        BadRequest: The allocation's id holds what no such id holds.
    """
    if not _name.fullmatch(owner.allocation_id):
        raise BadRequest(f"{owner.allocation_id[:200]!r} is no id of an allocation")
    # A forged token must not be able to block or to speak for the real one.
    digest = hashlib.sha256(repr(owner.metadata).encode()).hexdigest()
    return f"{owner.allocation_id}.{digest[:16]}"
