"""A job followed to its end: its output, why it waits, and how it ended."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, BinaryIO

from rich.console import Console

from shipway_launcher.client import LauncherClient

LOGS = {
    "output": "-output.log",
    "error": "-error.log",
    "submission": "-submission.log",
    "script": "-job.sh",
}
"""The logs of a job, by what people call them: endings of their names."""
ENDED = ("COMPLETED", "FAILED", "TERMINATED", "MISSING")
_LOOK_EVERY_S = 1.0
_EXIT = re.compile(r"Job Exited with Exit Code (\d+)(?: in response to receiving Signal (\d+))?")
_CANCELLED_STATUS = 128 + signal.SIGTERM


class Following:
    """Prints what is new of one dispatch each time it looks."""

    def __init__(self, client: LauncherClient, info: Mapping[str, Any]) -> None:
        """Begin with what the launcher said of it."""
        self._client = client
        self._owner: str = info["launchingUser"]
        self._id: str = info["dispatchId"]
        self._payload = next(iter(info["payloadStates"]))
        self._offsets = {"output": 0, "error": 0}
        self._told = ""
        self._events = 0
        self._console = Console(stderr=True, highlight=False)

    async def follow(self) -> dict[str, Any]:
        """Print until the job has ended; returns the launcher's last word on it."""
        with self._console.status("waiting") as waiting:
            while True:
                info = await self._client.status(self._owner, self._id)
                self._tell(info)
                if info["state"] != "PENDING":
                    waiting.stop()  # before the job's own output comes
                # Asked after the state: what a job wrote before its end is there by then.
                await self._print_new()
                if info["state"] in ENDED:
                    return info
                await asyncio.sleep(_LOOK_EVERY_S)

    async def cancel(self) -> None:
        """Ask for the job's end."""
        await self._client.terminate(self._owner, self._id)

    def _tell(self, info: Mapping[str, Any]) -> None:
        for event in info["events"][self._events :]:
            self._say(event["message"].rstrip())
        self._events = len(info["events"])
        state = info["state"]
        if state != self._told:
            self._told = state
            job_id = info["additionalProperties"].get("job-id")
            self._say(f"{self._id}: {state.lower()}" + (f", job {job_id}" if job_id else ""))

    def _say(self, text: str) -> None:
        self._console.print(text, style="dim", markup=False)

    async def _print_new(self) -> None:
        streams: dict[str, BinaryIO] = {"output": sys.stdout.buffer, "error": sys.stderr.buffer}
        for kind, stream in streams.items():
            name = self._payload + LOGS[kind]
            data = await self._client.log_from(
                self._owner, self._id, name, offset=self._offsets[kind]
            )
            if data:
                self._offsets[kind] += len(data)
                stream.write(data)
                stream.flush()


async def follow_to_end(
    client: LauncherClient, info: Mapping[str, Any], *, cancels: bool = True
) -> int:
    """Follow a job; returns the exit status for it.

    An interrupt cancels the job, where *cancels* is set, and a second one leaves at once.
    """
    following = Following(client, info)
    async with _interrupts() as interrupted:
        work = asyncio.create_task(following.follow())
        first = asyncio.create_task(interrupted.acquire())
        await asyncio.wait({work, first}, return_when=asyncio.FIRST_COMPLETED)
        if cancels and not work.done():
            Console(stderr=True).print("cancelling; once more leaves at once", style="dim")
            await following.cancel()
            second = asyncio.create_task(interrupted.acquire())
            await asyncio.wait({work, second}, return_when=asyncio.FIRST_COMPLETED)
            second.cancel()
        first.cancel()
        if not work.done():
            work.cancel()
            return _CANCELLED_STATUS
        return exit_status(await work)


def exit_status(info: Mapping[str, Any]) -> int:
    """Turn how a job ended into an exit status, its own where it had one."""
    state = info["state"]
    if state == "COMPLETED":
        return 0
    if state == "TERMINATED":
        return _CANCELLED_STATUS
    for event in reversed(info["events"]):
        if found := _EXIT.search(event["message"]):
            code, number = int(found[1]), int(found[2] or 0)
            return 128 + number if number else code or 1
    return 1


@asynccontextmanager
async def _interrupts() -> AsyncGenerator[asyncio.Semaphore]:
    """Count SIGINT instead of dying of it."""
    count = asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, count.release)
    try:
        yield count
    finally:
        loop.remove_signal_handler(signal.SIGINT)
