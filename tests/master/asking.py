"""What tests of the cluster side ask of a master, over REST."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tests.master.running import MasterUnderTest

Value = TypeVar("Value")


async def eventually(ask: Callable[[], Awaitable[Value | None]], *, limit_s: float = 60) -> Value:
    """Ask until the answer is something other than None or False, and return it.

    Raises:
        TimeoutError: It was not, in *limit_s* seconds.
    """
    async with asyncio.timeout(limit_s):
        while True:
            answer = await ask()
            if answer:
                return answer
            await asyncio.sleep(0.02)


async def launch(master: MasterUnderTest, config: dict[str, Any], **more: Any) -> str:
    """Launch a command and return its id."""
    answer = await master.call("POST", "/commands", {"config": config, **more})
    assert answer.status == 200, answer.body
    task_id: str = answer.json["command"]["id"]
    return task_id


async def create(master: MasterUnderTest, config: str, **more: Any) -> str:
    """Create a generic task and return its id."""
    answer = await master.call("POST", "/generic-tasks", {"config": config, **more})
    assert answer.status == 200, answer.body
    task_id: str = answer.json["taskId"]
    return task_id


async def get_task(master: MasterUnderTest, task_id: str) -> dict[str, Any]:
    """Fetch a task."""
    task: dict[str, Any] = (await master.call("GET", f"/tasks/{task_id}")).json["task"]
    return task


async def wait_for_state(
    master: MasterUnderTest, task_id: str, state: str, *, run: int | None = None
) -> dict[str, Any]:
    """Wait until a run (the newest unless *run* says which) is in a state; return the run."""

    async def look() -> dict[str, Any] | None:
        runs = (await get_task(master, task_id))["allocations"]
        for one in runs:
            wanted = run is None or one["allocationId"].endswith(f".{run}")
            if wanted:
                return one if one["state"] == f"STATE_{state}" else None
        return None

    return await eventually(look)


async def wait_for_end(master: MasterUnderTest, task_id: str) -> dict[str, Any]:
    """Wait until a task has ended; return it."""

    async def look() -> dict[str, Any] | None:
        task = await get_task(master, task_id)
        return task if task.get("endTime") else None

    return await eventually(look)


async def read_log(master: MasterUnderTest, task_id: str) -> list[str]:
    """Read the lines of a task's log, without time and level."""
    answer = await master.call("GET", f"/tasks/{task_id}/logs")
    lines = [line for line in answer.body.decode().split("\n") if line]
    return [json.loads(line)["result"]["log"].rstrip("\n") for line in lines]


async def wait_for_line(master: MasterUnderTest, task_id: str, text: str) -> str:
    """Wait until a line of a task's log holds *text*; return the line."""

    async def look() -> str | None:
        lines = await read_log(master, task_id)
        return next((line for line in lines if text in line), None)

    return await eventually(look)
