"""Small ways of running coroutines together that `asyncio` has no name for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def first_ended(*coroutines: Coroutine[Any, Any, Result]) -> Result:
    """Run all until one ends, then cancel the others and wait for them; give the one's result.

    If several end at once, the one that was named first counts. An error that another raised while
    it was being cancelled is lost.
    """
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        winner = next(task for task in tasks if task.done())
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        if task is not winner and not task.cancelled():
            task.exception()  # seen, so that asyncio does not complain about it
    return winner.result()


async def uncut(work: Coroutine[Any, Any, Result]) -> Result:
    """Wait for *work* to its end, also when cancelled; the cancellation goes on afterwards.

    For what a thread does, which no cancellation ends: whoever comes next must find it done.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # seen, so that asyncio does not complain about it
        raise
