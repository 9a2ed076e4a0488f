"""How long logs are kept after the end of their task, and who removes them then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator
from sqlalchemy import BigInteger, cast, exists, func, select, type_coerce

from shipway_common.settings import Settings
from shipway_master.background import Background
from shipway_master.durations import parse_duration
from shipway_master.errors import InvalidArgument, MasterError
from shipway_master.logbook import LogBook
from shipway_master.store.base import microseconds
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow, TrialRow, TrialTaskRow
from shipway_master.store.logs import LogChunkRow
from shipway_master.store.tasks import TaskRow

log = logging.getLogger(__name__)

FOREVER = -1
_TASKS_AT_ONCE = 100
_DAY_US = 86_400_000_000
_cron_names = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class RetentionPolicy(Settings):
    """How long logs are kept."""

    log_retention_days: int = Field(default=FOREVER, ge=FOREVER, le=32767)
    """Days after the end of a task for which its log is kept; -1: for ever."""
    schedule: str = "@midnight"
    """When old logs are removed: a cron expression in UTC, or the time between two rounds (24h)."""

    @field_validator("schedule")
    @classmethod
    def _check_schedule(cls, value: str) -> str:
        parse_schedule(value)(datetime.now(UTC))
        return value


def parse_schedule(schedule: str) -> Callable[[datetime], datetime]:
    """Read a schedule; what is returned finds the moment of the next round after a moment.

    Raises:
        ValueError: It is neither a cron expression nor a time.
    """
    try:
        pause = parse_duration(schedule)
    except InvalidArgument:
        expression = _cron_names.get(schedule, schedule)
        try:
            next(CronSim(expression, datetime.now(UTC)))
        except (CronSimError, StopIteration) as error:
            raise ValueError(
                f"{schedule!r} is neither a cron expression such as '0 3 * * *' nor a time such as 24h"
            ) from error
        return lambda now: next(CronSim(expression, now))
    if pause < timedelta(seconds=1):
        raise ValueError(f"{schedule!r} is less than a second")
    return lambda now: now + pause


class LogRetention:
    """Removes the logs of tasks that ended long ago.

    What people set for a trial or its experiment counts before the policy.
    """

    def __init__(self, policy: RetentionPolicy, database: Database, book: LogBook) -> None:
        self._policy, self._database, self._book = policy, database, book

    @asynccontextmanager
    async def on_schedule(self) -> AsyncGenerator[None]:
        """Remove what is old whenever it is time, until the block ends."""
        async with Background() as background:
            background.start(self._keep_cleaning(), name="log retention")
            yield

    async def clean(self) -> int:
        """Remove what is too old; returns how many lines that were.

        Raises:
            Unavailable: The database refused; what was removed before stays removed.
        """
        removed = 0
        while task_ids := await self._find_old():
            for task_id in task_ids:
                removed += await self._book.remove(task_id)
        if removed:
            log.info("old logs were removed", extra={"lines": removed})
        return removed

    async def _find_old(self) -> list[str]:
        days = func.coalesce(
            TrialRow.log_retention_days,
            ExperimentRow.log_retention_days,
            self._policy.log_retention_days,
        )
        ended_us = type_coerce(TaskRow.ended_at, BigInteger)
        now_us = microseconds(datetime.now(UTC))
        has_log = exists().where(LogChunkRow.task_id == TaskRow.task_id)
        statement = (
            select(TaskRow.task_id)
            .outerjoin(TrialTaskRow, TrialTaskRow.task_id == TaskRow.task_id)
            .outerjoin(TrialRow, TrialRow.id == TrialTaskRow.trial_id)
            .outerjoin(ExperimentRow, ExperimentRow.id == TrialRow.experiment_id)
            .where(days != FOREVER, ended_us + cast(days, BigInteger) * _DAY_US < now_us, has_log)
        )
        async with self._database.reading() as session:
            return list((await session.scalars(statement.limit(_TASKS_AT_ONCE))).all())

    async def _keep_cleaning(self) -> None:
        next_round = parse_schedule(self._policy.schedule)
        while True:
            now = datetime.now(UTC)
            await asyncio.sleep((next_round(now) - now).total_seconds())
            try:
                await self.clean()
            except MasterError as error:
                log.warning("old logs could not be removed: %s", error)
