"""Services that nobody uses are ended after a while."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Final

from shipway_master.allocations.ids import TaskId
from shipway_master.durations import render_duration
from shipway_master.errors import MasterError
from shipway_master.tasks.notebook import choose_report_interval_s
from shipway_master.tasks.records import TaskRecord
from shipway_master.tasks.states import TaskType
from shipway_master.tasks.tasks import Tasks

log = logging.getLogger(__name__)

_SETTINGS: Mapping[TaskType, str] = {
    TaskType.NOTEBOOK: "notebook_timeout",
    TaskType.TENSORBOARD: "tensorboard_timeout",
}


_HEARD_WITHIN_S: Final = 10.0
_PATIENCE_S: Final = 3600.0
"""So much longer a notebook lives that cannot be heard: it may be at work beyond a broken network."""


class IdleWatch:
    """Knows when each service was last used, and ends those that were not for too long.

    The time of a service begins when it is ready. What is known does not outlive the master: after
    its restart each service has its whole time again.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._last_used: dict[TaskId, float] = {}
        self._last_heard: dict[TaskId, float] = {}

    def note_use(self, task_id: str) -> None:
        """Somebody uses a task's service; tasks that do not live are not noted."""
        if self._tasks.find_run(TaskId(task_id)) is not None:
            self._last_used[TaskId(task_id)] = time.monotonic()

    def note_report(self, task_id: TaskId, *, is_idle: bool) -> None:
        """A notebook says whether it is in use."""
        if self._tasks.find_run(task_id) is not None:
            self._last_heard[task_id] = time.monotonic()
        if not is_idle:
            self.note_use(task_id)

    async def keep_watching(self, *, interval_s: float) -> None:
        """End what is idle, until cancelled."""
        while True:
            await self._end_idle()
            await asyncio.sleep(interval_s)

    async def _end_idle(self) -> None:
        now = time.monotonic()
        open_tasks = {record.task_id: record for record in self._tasks.list_open()}
        for known in (self._last_used, self._last_heard):
            for task_id in known.keys() - open_tasks.keys():
                del known[task_id]
        for record in open_tasks.values():
            limit_s = record.config.idle_timeout
            if limit_s and record.task_type in _SETTINGS and self._is_ready(record):
                idle_s = now - self._last_used.setdefault(record.task_id, now)
                patience_s = 0 if self._is_heard(record, limit_s, now) else _PATIENCE_S
                if idle_s >= limit_s + patience_s:
                    await self._end(record, limit_s)

    def _is_heard(self, record: TaskRecord, limit_s: float, now: float) -> bool:
        """Whether reports arrive from those that make any, so that none of use means no use."""
        if record.task_type is not TaskType.NOTEBOOK:
            return True
        heard_at = self._last_heard.get(record.task_id)
        within_s = max(_HEARD_WITHIN_S, 4 * choose_report_interval_s(limit_s))
        return heard_at is not None and now - heard_at <= within_s

    def _is_ready(self, record: TaskRecord) -> bool:
        run = self._tasks.find_run(record.task_id)
        return run is not None and run.record.is_ready and not (run.is_over or run.is_leaving)

    async def _end(self, record: TaskRecord, limit_s: float) -> None:
        reason = (
            f"nobody used it for {render_duration(limit_s)} "
            f"(idle_timeout, by default the master's {_SETTINGS[record.task_type]})"
        )
        try:
            await self._tasks.kill(record, reason=reason)
        except MasterError as error:
            log.warning("an idle task could not be ended: %s", error)
            return
        log.info("an idle task is ended", extra={"task_id": record.task_id})
