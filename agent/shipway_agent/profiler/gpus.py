"""GPU readings through a helper process, which may hang or crash without harm to the agent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shipway_agent.profiler.readings import Readings, Series

log = logging.getLogger(__name__)

_HELPER = Path(__file__).with_name("nvml_readings.py")
_LINE_LIMIT = 1 << 16
_SILENCE_S = 10.0
_REST_S = 30.0
_NAMES = ("gpu_util", "gpu_free_memory")


async def watch_gpus(
    names: Sequence[str],
    take: Callable[[Readings], None],
    *,
    environ: Mapping[str, str],
    interval_s: float = 1.0,
    silence_s: float = _SILENCE_S,
    rest_s: float = _REST_S,
) -> None:
    """Hand on readings of the GPUs *names* as they come; until cancelled.

    A GPU that hangs or crashes the helper is left out, so that it cannot hide the others. Where
    NVML does not work at all, that is logged once, and there are no readings.

    Args:
        names: Indexes or UUIDs.
        take: Gets the readings of one GPU at a time.
        environ: Tells the helper where the library is.
        interval_s: Time from one reading to the next.
        silence_s: How long the helper may take for one GPU.
        rest_s: How long to leave a helper alone that ended.
    """
    left = list(names)
    while left:
        helper = _Helper(take, interval_s=interval_s, silence_s=silence_s)
        problem = await helper.run(left, environ)
        if helper.is_unusable:
            log.warning("no GPU metrics: %s", problem)
            return
        log.warning("GPU metrics interrupted: %s", problem, extra={"gpu": helper.asking or ""})
        left = [name for name in left if name != helper.asking]
        await asyncio.sleep(rest_s)


class _Helper:
    """One run of the helper."""

    def __init__(
        self, take: Callable[[Readings], None], *, interval_s: float, silence_s: float
    ) -> None:
        self._take = take
        self._interval_s, self._silence_s = interval_s, silence_s
        self.asking: str | None = None
        """The GPU that was asked when it ended."""
        self.is_unusable = False
        """Whether NVML itself said that it does not work here."""

    async def run(self, names: Sequence[str], environ: Mapping[str, str]) -> str:
        """Run it; returns in words why it ended."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            str(_HELPER),
            str(self._interval_s),
            *names,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=dict(environ),
            start_new_session=True,
            limit=_LINE_LIMIT,
        )
        try:
            return await self._read(process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):  # in the driver not even KILL may end it
                    await process.wait()

    async def _read(self, process: asyncio.subprocess.Process) -> str:
        assert process.stdout is not None
        while True:
            try:
                async with asyncio.timeout(self._interval_s + self._silence_s):
                    line = await process.stdout.readline()
            except TimeoutError:
                return f"NVML did not answer within {self._silence_s:g} s"
            if not line:
                return "the helper that reads NVML crashed"
            try:
                told: Any = json.loads(line)
            except ValueError:  # whatever else a library prints is not ours
                continue
            match told:
                case {"error": int(number)}:
                    self.is_unusable = True
                    return f"NVML error {number}"
                case {"asking": str(name)}:
                    self.asking = name
                case {"gpu": str()}:
                    self.asking = None
                    self._take(_readings(told))
                case _:
                    pass


def _readings(told: Mapping[str, Any]) -> Readings:
    uuid = str(told.get("uuid", ""))
    return {Series(name=name, gpu_uuid=uuid): float(told[name]) for name in _NAMES if name in told}
