"""GPU readings through a helper process, which may hang or crash without harm to the agent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import mmap
import os
import signal
import struct
import sys
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shipway_agent.profiler.quantities import GpuUsage, Quantity
from shipway_agent.slots.slot import Slot

log = logging.getLogger(__name__)

_LINE_LIMIT = 1 << 20
_quantities: Mapping[str, tuple[Quantity, float]] = {
    "utilization": (Quantity.UTILIZATION, 0.01),
    "memory_total": (Quantity.MEMORY_TOTAL, 1),
    "memory_used": (Quantity.MEMORY_USED, 1),
    "memory_free": (Quantity.MEMORY_FREE, 1),
    "temperature": (Quantity.TEMPERATURE, 1),
    "power": (Quantity.POWER, 1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """Whom a helper asks."""

    name: str
    file: Path
    """The helper, a program of ours."""
    arguments: tuple[str, ...] = ()


NVML = Driver(name="NVML", file=Path(__file__).with_name("nvml_readings.py"))


def amd_driver(slots: Iterable[Slot], root: Path = Path("/")) -> Driver:
    """Say how AMD's driver is asked, which knows the cards by their PCI addresses.

    Args:
        slots: The cards; one without an address is left out.
        root: Where /sys is.
    """
    cards = [
        {
            "index": slot.gpu_index,
            "uuid": slot.uuid,
            "name": slot.brand,
            "folder": str(root / "sys/bus/pci/devices" / slot.pci_bus.lower()),
        }
        for slot in slots
        if slot.type == "rocm" and slot.pci_bus
    ]
    return Driver(
        name="the AMD driver",
        file=Path(__file__).with_name("amd_readings.py"),
        arguments=(json.dumps(cards),),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuTiming:
    """How long to wait for what, in seconds."""

    patience_s: float = 0.5
    """For readings, before whoever asks goes on without."""
    start_s: float = 5.0
    """The same while the helper starts, and the driver wakes its GPUs."""
    silence_s: float = 10.0
    """For the helper, before it is ended."""
    rest_s: float = 30.0
    """Before a GPU, or a driver, that ended a helper is asked again; doubled each time."""
    longest_rest_s: float = 3600.0
    idle_s: float = 150.0
    """How long a helper stays that nobody asks."""


class GpuReader:
    """Reads all GPUs of the machine on request; to be entered."""

    def __init__(
        self,
        environ: Mapping[str, str],
        timing: GpuTiming | None = None,
        *,
        driver: Driver = NVML,
    ) -> None:
        """Prepare; nothing is started before the first question.

        Args:
            environ: Tells the helper where the library is.
            timing: How long to wait.
            driver: Whom to ask.
        """
        self._environ, self._driver = dict(environ), driver
        self._timing = timing or GpuTiming()
        self._asked = asyncio.Event()
        self._answers: tuple[GpuUsage, ...] = ()
        self._answered = asyncio.Event()
        self._rests = _Rests(self._timing)
        self._is_warm = False
        """Whether the helper that runs has answered."""
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> GpuReader:
        self._task = asyncio.create_task(self._run(), name="read GPUs")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    async def read(self) -> tuple[GpuUsage, ...]:
        """Read all GPUs now; those that do not answer in time are left out."""
        self._answered.clear()
        self._answers = ()
        self._asked.set()
        limit_s = self._timing.patience_s if self._is_warm else self._timing.start_s
        await _event_or_timeout(self._answered, limit_s)
        return self._answers

    async def _run(self) -> None:
        while True:
            await self._asked.wait()
            if (rest_s := self._rests.of_driver()) > 0:
                self._asked.clear()
                self._answered.set()  # there is nobody to wait for
                await _event_or_timeout(self._asked, rest_s)
                continue
            try:
                await self._serve()
            except OSError as error:
                self._rests.note(None, f"the helper cannot be started: {error}")
            except Exception:
                log.exception("reading the GPUs failed; trying again later")
                self._rests.note(None, "internal error")

    async def _serve(self) -> None:
        """Let one helper answer until it is not asked any more, or ends."""
        self._is_warm = False
        async with _helper(self._driver, self._environ) as helper:
            while await _event_or_timeout(self._asked, self._timing.idle_s):
                self._asked.clear()
                resting = self._rests.of_gpus()
                problem, gpus = await helper.ask(resting, self._timing.silence_s)
                if problem is not None:
                    self._rests.note(helper.asking, problem)
                    self._answered.set()
                    return
                self._rests.answered({gpu.index for gpu in gpus})
                self._answers = gpus
                self._is_warm = True
                self._answered.set()


class _Rests:
    """Who is left alone, and until when; says so when that changes."""

    def __init__(self, timing: GpuTiming) -> None:
        self._timing = timing
        self._until: dict[int | None, float] = {}
        self._last_s: dict[int | None, float] = {}
        self._problems: dict[int | None, str] = {}

    def note(self, gpu: int | None, problem: str) -> None:
        """Give a GPU (None: the whole driver) a rest, longer than the last one."""
        last_s = self._last_s.get(gpu, self._timing.rest_s / 2)
        rest_s = min(2 * last_s, self._timing.longest_rest_s)
        self._last_s[gpu] = rest_s
        self._until[gpu] = asyncio.get_running_loop().time() + rest_s
        if self._problems.get(gpu) != problem:
            self._problems[gpu] = problem
            who = "no GPU metrics" if gpu is None else f"no metrics of GPU {gpu}"
            log.warning("%s: %s; trying again later", who, problem)

    def answered(self, gpus: Collection[int]) -> None:
        """Take note of who works."""
        for gpu in (None, *gpus):
            self._last_s.pop(gpu, None)
            self._until.pop(gpu, None)
            if self._problems.pop(gpu, None) is not None:
                log.info("GPU metrics are back", extra={} if gpu is None else {"gpu": gpu})

    def of_driver(self) -> float:
        """Return how long the driver is still to be left alone; 0: not any more."""
        return max(0.0, self._until.get(None, 0.0) - asyncio.get_running_loop().time())

    def of_gpus(self) -> list[int]:
        """Return the GPUs that are not to be asked now."""
        now = asyncio.get_running_loop().time()
        return [gpu for gpu, until in self._until.items() if gpu is not None and until > now]


class _Helper:
    """A running helper."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, mark: mmap.mmap) -> None:
        self._name, self._process = name, process
        self._mark = mark

    @property
    def asking(self) -> int | None:
        """The GPU that it is asking, or was when it ended; None: the driver as such."""
        number: int = struct.unpack_from("=I", self._mark)[0]
        return number - 1 if number else None

    async def ask(
        self, skipped: Collection[int], limit_s: float
    ) -> tuple[str | None, tuple[GpuUsage, ...]]:
        """Have all GPUs read but *skipped*; returns what went wrong, or None and the readings."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(limit_s):
                self._process.stdin.write(" ".join(map(str, skipped)).encode() + b"\n")
                await self._process.stdin.drain()
                while line := await self._process.stdout.readline():
                    match _parse(line):
                        case {"error": int(number)}:
                            return f"{self._name} says error {number}", ()
                        case {"gpus": gpus}:
                            return None, tuple(_usage(gpu) for gpu in gpus)
                        case _:  # whatever else a library prints is not ours
                            pass
        except TimeoutError:
            return f"{self._name} did not answer within {limit_s:g} s", ()
        except (ConnectionError, ValueError):  # it is gone, or prints without an end
            pass
        return f"the helper that asks {self._name} crashed", ()


@asynccontextmanager
async def _helper(driver: Driver, environ: Mapping[str, str]) -> AsyncGenerator[_Helper, None]:
    """Run a helper, and end it on the way out without waiting for a driver that hangs."""
    descriptor = os.memfd_create("nvml")
    try:
        os.ftruncate(descriptor, 4)
        mark = mmap.mmap(descriptor, 4)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            str(driver.file),
            str(descriptor),
            *driver.arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environ,
            pass_fds=(descriptor,),
            start_new_session=True,
            limit=_LINE_LIMIT,
        )
    finally:
        os.close(descriptor)
    try:
        yield _Helper(driver.name, process, mark)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):  # in the driver not even KILL may end it
                await process.wait()
        mark.close()


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _usage(told: Mapping[str, Any]) -> GpuUsage:
    return GpuUsage(
        index=int(told["index"]),
        uuid=str(told["uuid"]),
        name=str(told.get("name") or ""),
        parent_uuid=told.get("parent"),
        numbers={
            quantity: told[key] * factor
            for key, (quantity, factor) in _quantities.items()
            if key in told
        },
    )


async def _event_or_timeout(event: asyncio.Event, limit_s: float) -> bool:
    """Wait for an event; returns whether it is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await event.wait()
    return event.is_set()
