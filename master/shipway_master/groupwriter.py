"""Writing for many at once: those who wait at the same time share one transaction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Self, TypeVar

from shipway_master.errors import Internal, MasterError, Unavailable

log = logging.getLogger(__name__)

Item = TypeVar("Item")


class Waiting(Generic[Item]):
    """What one caller wants to have written, for which he waits."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.refusal: MasterError | None = None
        """Set by who writes, if this one cannot be: the others of the transaction can."""
        self.written: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def succeed(self) -> None:
        """Tell the caller that the transaction is through."""
        if self.refusal is not None:
            self.fail(self.refusal)
        elif not self.written.done():
            self.written.set_result(None)

    def fail(self, error: MasterError) -> None:
        """Tell the caller that nothing was written."""
        if not self.written.done():
            self.written.set_exception(error)


class GroupWriter(Generic[Item]):
    """Gathers what callers want to have written; entered, it owns the task that writes it.

    A caller waits for the disk, and so is slowed down by it: there is no queue that could grow.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Waiting[Item]]], Awaitable[None]],
        *,
        name: str,
        at_once: int,
    ) -> None:
        """Write by *write*, which does it for all or, by raising, for none.

        Args:
            name: What is written, for the log.
            at_once: How much of it one transaction may have.
        """
        self._write, self._name, self._at_once = write, name, at_once
        self._waiting: list[Waiting[Item]] = []
        self._wake = asyncio.Event()
        self._is_closing = False
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._group.create_task(self._keep_writing(), name=f"writer of {self._name}")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Write what is still waiting, and take no more."""
        self._is_closing = True
        self._wake.set()
        await self._group.__aexit__(None, None, None)

    async def put(self, item: Item) -> None:
        """Have *item* written, and return when it is safe.

        Raises:
            Unavailable: The database refused (disk full, server gone), or the writer is closed;
                nothing was written.
            MasterError: It was refused.
        """
        if self._is_closing:
            raise Unavailable("the master is stopping")
        waiting = Waiting(item)
        self._waiting.append(waiting)
        self._wake.set()
        await waiting.written

    async def _keep_writing(self) -> None:
        while not self._is_closing or self._waiting:
            if not self._waiting:
                await self._wake.wait()
            self._wake.clear()
            group = self._waiting[: self._at_once]
            del self._waiting[: self._at_once]
            if group:
                await self._write_group(group)

    async def _write_group(self, group: Sequence[Waiting[Item]]) -> None:
        try:
            await self._write(group)
        except MasterError as error:
            await self._failed(group, error)
        except Exception:
            log.exception("%s could not be stored", self._name)
            await self._failed(group, Internal(f"the {self._name} could not be stored"))
        else:
            for waiting in group:
                waiting.succeed()

    async def _failed(self, group: Sequence[Waiting[Item]], error: MasterError) -> None:
        if len(group) == 1 or isinstance(error, Unavailable):
            for waiting in group:
                waiting.fail(error)
            return
        for waiting in group:  # one of them is at fault, and the others must not suffer
            waiting.refusal = None
            await self._write_group([waiting])
