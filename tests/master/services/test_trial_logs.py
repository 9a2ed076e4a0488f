"""The logs of trials, over all of their tasks; and how long they are kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from shipway_master.store.database import Database, opened
from shipway_master.store.experiments import TrialTaskRow
from tests.master.experiments_in_store import add_experiment, add_trial
from tests.master.running import MasterUnderTest
from tests.master.tasks_in_store import add_task, end_task
from tests.proto.required import missing_required

LONG_AGO = timedelta(days=10)


@pytest.fixture
async def database(master: MasterUnderTest) -> AsyncGenerator[Database]:
    """Open the master's database beside it, with a trial that was continued by a second task."""
    async with opened(master.database_url) as database:
        await add_experiment(database)
        await add_trial(database, 1, task_id="1.t")
        second = {"task_id": "1.t-1", "trial_id": 1, "number": 2}
        async with database.writing() as session:
            await session.execute(insert(TrialTaskRow).values(second))
        await add_task(database, "1.t", ended_at=datetime.now(UTC) - LONG_AGO)
        await add_task(database, "1.t-1")
        yield database


async def _write(master: MasterUnderTest, task_id: str, *lines: str) -> None:
    logs = [{"taskId": task_id, "log": line, "rankId": 0, "level": "INFO"} for line in lines]
    answer = await master.call("POST", "/task/logs", {"logs": logs})
    assert answer.status == 200, answer.body


async def _read(master: MasterUnderTest, query: str = "") -> list[Any]:
    answer = await master.call("GET", f"/trials/1/logs?{query}", token="user")
    assert answer.status == 200, answer.body
    return [json.loads(line)["result"] for line in answer.body.splitlines()]


async def test_lines_of_all_tasks_follow_each_other(
    master: MasterUnderTest, database: Database
) -> None:
    await _write(master, "1.t-1", "c\n", "d\n")
    await _write(master, "1.t", "a\n", "b\n")

    lines = await _read(master)
    tail = await _read(master, "orderBy=ORDER_BY_DESC&limit=3")
    some = await _read(master, "searchText=B")

    assert [one["log"] for one in lines] == ["a\n", "b\n", "c\n", "d\n"]
    assert missing_required("determined.api.v1.TrialLogsResponse", lines[0]) == []
    assert lines[0]["message"].endswith("[rank=0] || INFO: a\n")
    ids = [int(one["id"]) for one in lines]
    assert sorted(ids) == ids
    assert [one["log"] for one in tail] == ["d\n", "c\n", "b\n"]
    assert [one["log"] for one in some] == ["b\n"]
    assert (await master.call("GET", "/trials/2/logs")).status == 404
    assert (await master.call("GET", "/trials/1/logs?limit=-1")).status == 400


async def test_a_trial_is_followed_to_the_end_of_its_last_task(
    master: MasterUnderTest, database: Database
) -> None:
    await _write(master, "1.t", "a\n")
    following = asyncio.create_task(_read(master, "follow=true"))
    await _write(master, "1.t-1", "b\n")
    await end_task(database, "1.t-1")

    assert [one["log"] for one in await following] == ["a\n", "b\n"]


async def test_the_fields_of_lines_are_listed(master: MasterUnderTest, database: Database) -> None:
    await _write(master, "1.t", "a\n")

    answer = await master.call("GET", "/trials/1/logs/fields")

    results = [json.loads(line)["result"] for line in answer.body.splitlines()]
    assert [one["rankIds"] for one in results] == [[0], []]
    assert missing_required("determined.api.v1.TrialLogsFieldsResponse", results[0]) == []


async def test_what_is_set_for_a_trial_counts_before_its_experiment(
    master: MasterUnderTest, database: Database
) -> None:
    await _write(master, "1.t", "a\n")
    days = "/trials/1/remaining_log_retention_days"

    assert "remainingDays" not in (await master.call("GET", days)).json
    assert (await master.call("PUT", "/experiments/1/retain_logs", {"numDays": 11})).status == 200
    assert (await master.call("GET", days)).json == {"remainingDays": 11}
    assert (await master.call("POST", "/cleanup_logs", {})).json == {"removedCount": "0"}
    assert (await master.call("PUT", "/trials/1/retain_logs", {"numDays": 9})).status == 200
    assert (await master.call("GET", "/trials/1")).json["trial"]["logRetentionDays"] == 9
    assert (await master.call("POST", "/cleanup_logs", {})).json == {"removedCount": "1"}
    assert (await master.call("PUT", "/trials/1/retain_logs", {"numDays": -2})).status == 400
    assert (await master.call("PUT", "/trials/7/retain_logs", {"numDays": 1})).status == 404


async def test_a_trial_that_runs_elsewhere_sends_its_lines_itself(
    master: MasterUnderTest, database: Database
) -> None:
    await add_experiment(database, unmanaged=True)
    await add_trial(database, 2, task_id="2.t")
    lines = [{"task_id": "2.t", "timestamp": "2026-01-02T03:04:05+00:00", "log": "far\n"}]

    async def send(body: Any, token: str | None) -> int:
        headers = {} if token is None else master.auth(token)
        async with master.session.post(
            f"{master.url}/task-logs", json=body, headers=headers
        ) as answer:
            return answer.status

    assert await send(lines, None) == 401
    assert await send([{**lines[0], "task_id": "none"}], master.user_token) == 404
    assert await send({"log": 3}, master.user_token) == 400
    assert await send(lines, master.user_token) == 200
    answer = await master.call("GET", "/trials/2/logs")
    assert json.loads(answer.body)["result"]["log"] == "far\n"
