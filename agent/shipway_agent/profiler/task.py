"""The profiler of one task: hears of what it uses, and posts that in the task's name."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from shipway_agent.profiler.quantities import Snapshot
from shipway_agent.profiler.readings import task_readings
from shipway_agent.profiler.sampler import Sampler
from shipway_agent.profiler.samples import Sample, Samples, metrics_request
from shipway_agent.runtimes.spec import ContainerId
from shipway_agent.taskapi import CallFailed, CallRefused, TaskApi

log = logging.getLogger(__name__)

_PATH = "/api/v1/trials/profiler/metrics"
_BATCH = 5000
_LAST_POST_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilerTiming:
    """How often to post."""

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
    """Listens and posts between `__aenter__` and `__aexit__`; nothing in it can harm the task."""

    def __init__(
        self,
        api: TaskApi,
        sampler: Sampler,
        *,
        trial_id: int,
        agent_id: str,
        container_id: ContainerId,
        gpus: Collection[str],
        timing: ProfilerTiming | None = None,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            api: Posts in the task's name; the caller opens and closes it.
            sampler: Where the numbers come from; the caller's, too.
            trial_id: Whose metrics they are.
            agent_id: The node, as the master calls it.
            container_id: The task's container.
            gpus: The task's NVIDIA GPUs, by UUID or index.
            timing: How often.
        """
        self._api, self._sampler = api, sampler
        self._trial_id, self._agent_id = trial_id, agent_id
        self._container_id, self._gpus = container_id, tuple(gpus)
        self._timing = timing or ProfilerTiming()
        self._samples = Samples(limit=self._timing.keep_samples)
        self._before: Snapshot | None = None
        self._is_refused = False
        self._ended = asyncio.Event()
        self._stack = AsyncExitStack()
        self._posting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._posting = group.create_task(self._post_loop())
        self._stack.enter_context(self._sampler.listening(self._take))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Post what was read last, if the master takes it at once."""
        self._ended.set()
        if self._posting is not None:
            await asyncio.wait([self._posting], timeout=_LAST_POST_S)
            self._posting.cancel()
        await self._stack.__aexit__(kind, error, trace)

    def _take(self, snapshot: Snapshot) -> None:
        readings = task_readings(self._before, snapshot, self._container_id, self._gpus)
        self._before = snapshot
        self._samples.add(readings, snapshot.time)

    async def _post_loop(self) -> None:
        while not (self._is_refused or self._ended.is_set()):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timing.post_s):
                    await self._ended.wait()
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
