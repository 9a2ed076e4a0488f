"""The profiler of one task: reads its node and its GPUs, and posts in the task's name."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from shipway_agent.profiler.gpus import watch_gpus
from shipway_agent.profiler.readings import Readings, Source, host_sources
from shipway_agent.profiler.samples import Sample, Samples, metrics_request
from shipway_agent.taskapi import CallFailed, CallRefused, TaskApi

log = logging.getLogger(__name__)

_PATH = "/api/v1/trials/profiler/metrics"
_BATCH = 5000
_LAST_POST_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilerTiming:
    """How often to read and to post."""

    sample_s: float = 1.0
    post_s: float = 5.0
    keep_samples: int = 60_000
    """More are not kept while the master is away; an hour of a node with four GPUs."""


def asks_for_profile(environment: Mapping[str, str]) -> bool:
    """Say whether a container's environment asks for its task to be profiled."""
    return environment.get("SHIPWAY_PROFILE", "").strip().lower() in {"true", "1"}


def profiled_trial(environment: Mapping[str, str], *, enabled: bool = False) -> int | None:
    """Return the trial that a container's metrics belong to; None: it is not to be profiled.

    Args:
        environment: The container's.
        enabled: Whether all trials are profiled, as the agent's settings have it.
    """
    if not (enabled or asks_for_profile(environment)):
        return None
    return trial_number(environment.get("DET_TRIAL_ID", ""))


def trial_number(trial_id: str) -> int | None:
    """Return a trial's id as the API has it; None for a text that is no such id."""
    return int(trial_id) if trial_id.isascii() and trial_id.isdigit() else None


class TaskProfiler:
    """Reads and posts between `__aenter__` and `__aexit__`; nothing in it can harm the task."""

    def __init__(
        self,
        api: TaskApi,
        *,
        trial_id: int,
        agent_id: str,
        gpus: Sequence[str],
        environ: Mapping[str, str],
        timing: ProfilerTiming | None = None,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            api: Posts in the task's name; the caller opens and closes it.
            trial_id: Whose metrics they are.
            agent_id: The node, as the master calls it.
            gpus: The task's NVIDIA GPUs, by UUID or index.
            environ: The agent's own environment, for the helper that asks the driver.
            timing: How often.
        """
        self._api, self._trial_id, self._agent_id = api, trial_id, agent_id
        self._gpus, self._environ = tuple(gpus), environ
        self._timing = timing or ProfilerTiming()
        self._samples = Samples(limit=self._timing.keep_samples)
        self._sources: list[Source] = host_sources()
        self._failed: set[str] = set()
        self._is_refused = False
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._tasks = [group.create_task(self._sample_loop()), group.create_task(self._post_loop())]
        if self._gpus:
            self._tasks.append(group.create_task(self._gpu_loop()))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Post what was read last, if the master takes it at once."""
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_POST_S):
                await self._post()
        await self._stack.__aexit__(kind, error, trace)

    async def _sample_loop(self) -> None:
        while True:
            for source in self._sources:
                self._read(source)
            await asyncio.sleep(self._timing.sample_s)

    def _read(self, source: Source) -> None:
        """Read one source; one that fails says so once and does not hide the others."""
        try:
            readings = source.read(time.monotonic())
        except Exception as error:  # noqa: BLE001 (psutil raises what each system's files provoke)
            if source.group not in self._failed:
                self._failed.add(source.group)
                log.warning("no %s metrics: %r", source.group, error)
            return
        self._failed.discard(source.group)
        self._take(readings)

    def _take(self, readings: Readings) -> None:
        self._samples.add(readings, datetime.now(UTC))

    async def _gpu_loop(self) -> None:
        try:
            await watch_gpus(
                self._gpus, self._take, environ=self._environ, interval_s=self._timing.sample_s
            )
        except OSError as error:
            log.warning("no GPU metrics: %s", error)

    async def _post_loop(self) -> None:
        while not self._is_refused:
            await asyncio.sleep(self._timing.post_s)
            await self._post()

    async def _post(self) -> None:
        while not self._is_refused and (samples := self._samples.take(_BATCH)):
            if not await self._post_batch(samples):
                return

    async def _post_batch(self, samples: list[Sample]) -> bool:
        request = metrics_request(samples, trial_id=self._trial_id, agent_id=self._agent_id)
        try:
            await self._api.post(_PATH, request)
        except CallFailed as error:
            self._samples.put_back(samples)
            log.debug("metrics not posted; trying again later: %s", error)
            return False
        except CallRefused as error:
            self._is_refused = error.status in {401, 403, 404, 501}
            log.warning("the master refused metrics, which are dropped: %s", error)
        except asyncio.CancelledError:
            self._samples.put_back(samples)
            raise
        return True
