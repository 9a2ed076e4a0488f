"""Tasks that outlive the call that starts them, with an owner that ends them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, Self, TypeVar

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class Background:
    """Owns tasks; leaving the block cancels those that still run.

    One that fails is logged with its traceback and costs the others nothing.
    """

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_left = False

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._is_left = True
        for task in self._tasks:
            task.cancel()
        # The group is not told of an error of the block, which it would wrap into one of its own.
        await self._group.__aexit__(None, None, None)

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run *work* until it ends or the block does.

        Once the block is being left, nothing begins any more: the task is cancelled already.
        """
        if self._is_left:
            work.close()
            return _make_cancelled_task()
        # In a context of its own: log lines of the work must not carry the ids of the call that
        # happened to start it.
        task = self._group.create_task(_guarded(work), name=name, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # it may have been cancelled before it began
        return task


def _make_cancelled_task() -> asyncio.Task[None]:
    task = asyncio.ensure_future(asyncio.sleep(0))
    task.cancel()
    return task


async def _guarded(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:
        log.exception("a background task failed")


async def finish_first(work: Coroutine[Any, Any, Result], *, grace_s: float = 5.0) -> Result:
    """Do *work* whole: when cancelled meanwhile, go on with it for *grace_s* at most, then stop.

    For what records something that has happened, and would leave half of it behind.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        done, _ = await asyncio.wait([task], timeout=grace_s)
        if not done:
            log.warning("work was cut off at the end of the program")
            task.cancel()
            await asyncio.wait([task])
        elif not task.cancelled():
            task.exception()  # the program ends; whoever would handle it is gone
        raise
