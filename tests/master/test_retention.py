"""Old logs go when it is time, young ones stay."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shipway_master.config import load_config
from shipway_master.retention import parse_schedule
from shipway_master.store.database import opened
from tests.master.asking import eventually
from tests.master.running import MasterUnderTest, Prepared, master_running
from tests.master.tasks_in_store import add_task

NOW = datetime(2030, 5, 17, 12, 34, 56, tzinfo=UTC)


@asynccontextmanager
async def master_with_logs(
    prepared: Prepared, folder: Path, **policy: Any
) -> AsyncGenerator[MasterUnderTest]:
    """Run a master with the logs of a task that runs, one that ended today, and one ten days ago."""
    async with master_running(prepared, folder, retention_policy=policy) as master:
        async with opened(master.database_url) as database:
            now = datetime.now(UTC)
            await add_task(database, "runs")
            await add_task(database, "young", ended_at=now - timedelta(hours=1))
            await add_task(database, "old", ended_at=now - timedelta(days=10))
        for task_id in ("runs", "young", "old"):
            logs = [{"taskId": task_id, "log": f"{number}\n"} for number in range(3)]
            answer = await master.call("POST", "/task/logs", {"logs": logs})
            assert answer.status == 200
        yield master


async def count_lines(master: MasterUnderTest) -> dict[str, int]:
    """Count the lines of each task that has some."""
    bodies = {
        task_id: (await master.call("GET", f"/tasks/{task_id}/logs")).body
        for task_id in ("runs", "young", "old")
    }
    counts = {task_id: body.count(b'"result"') for task_id, body in bodies.items()}
    return {task_id: count for task_id, count in counts.items() if count}


async def test_logs_go_so_many_days_after_the_end_of_their_task(
    prepared: Prepared, tmp_path: Path
) -> None:
    async with master_with_logs(prepared, tmp_path / "data", log_retention_days=9) as master:
        refused = await master.call("POST", "/cleanup_logs", {}, token="user")
        before = await count_lines(master)
        removed = await master.call("POST", "/cleanup_logs", {})
        again = await master.call("POST", "/cleanup_logs", {})

        assert refused.status == 403
        assert before == {"runs": 3, "young": 3, "old": 3}
        assert removed.json == {"removedCount": "3"}
        assert again.json == {"removedCount": "0"}
        assert await count_lines(master) == {"runs": 3, "young": 3}


async def test_without_a_policy_logs_stay(prepared: Prepared, tmp_path: Path) -> None:
    async with master_with_logs(prepared, tmp_path / "data") as master:
        removed = await master.call("POST", "/cleanup_logs", {})

        assert removed.json == {"removedCount": "0"}
        assert len(await count_lines(master)) == 3


async def test_old_logs_go_on_schedule(prepared: Prepared, tmp_path: Path) -> None:
    policy = {"log_retention_days": 0, "schedule": "1s"}
    async with master_with_logs(prepared, tmp_path / "data", **policy) as master:

        async def only_the_running_one_is_left() -> bool:
            return await count_lines(master) == {"runs": 3}

        await eventually(only_the_running_one_is_left)


@pytest.mark.parametrize(
    ("schedule", "moment"),
    [
        ("90m", NOW + timedelta(minutes=90)),
        ("0 3 * * *", datetime(2030, 5, 18, 3, tzinfo=UTC)),
        ("*/10 * * * *", datetime(2030, 5, 17, 12, 40, tzinfo=UTC)),
        ("@midnight", datetime(2030, 5, 18, tzinfo=UTC)),
        ("@monthly", datetime(2030, 6, 1, tzinfo=UTC)),
    ],
)
def test_a_schedule_is_a_time_or_a_cron_expression(schedule: str, moment: datetime) -> None:
    assert parse_schedule(schedule)(NOW) == moment


@pytest.mark.parametrize("schedule", ["", "daily", "61 * * * *", "0 0 30 2 *", "0s", "-1h"])
def test_a_schedule_that_is_none_is_named(schedule: str) -> None:
    text = f"retention_policy:\n  schedule: '{schedule}'\n"
    with pytest.raises(Exception, match=r"retention_policy\.schedule"):
        load_config(file_text=text, file_name="master.yaml", flags={})
