"""Metrics of experiments that go on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import pytest

from shipway_master.store.database import Database, opened
from shipway_master.store.experiments import ExperimentRow
from tests.master.experiments_in_store import add_experiment
from tests.master.reporting import begin_trial, report
from tests.master.running import MasterUnderTest

STREAM = "/experiments/{}/metrics-stream"
ENDED = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture
async def database(master: MasterUnderTest) -> AsyncGenerator[Database]:
    """Open the database beside the master."""
    async with opened(master.database_url) as database:
        yield database


async def end(database: Database, experiment_id: int) -> None:
    """Let an experiment be over."""
    async with database.writing() as session:
        (await session.get_one(ExperimentRow, experiment_id)).ended_at = ENDED


async def test_streams_go_on_with_what_is_new_until_the_end(
    master: MasterUnderTest, database: Database
) -> None:
    experiment_id = await add_experiment(database)
    first, second = [await begin_trial(database, experiment_id=experiment_id) for _ in range(2)]
    await report(master, first, {"a": 1}, steps=1)
    stream = STREAM.format(experiment_id)
    paths = [
        f"/experiments/metrics-stream/metric-names?ids={experiment_id}&periodSeconds=1",
        f"{stream}/batches?metricName=a&group=training&periodSeconds=1",
        f"{stream}/trials-snapshot?metricName=a&periodSeconds=1&batchesProcessed=2&batchesMargin=1",
        f"{stream}/trials-sample?metricName=a&group=training&maxTrials=1&periodSeconds=1",
    ]
    have_begun = [asyncio.Event() for _ in paths]

    async def follow(path: str, has_begun: asyncio.Event) -> list[Any]:
        url = f"{master.url}/api/v1{path}"
        found: list[Any] = []
        async with master.session.get(url, headers=master.auth()) as answer:
            async for line in answer.content:
                found.append(json.loads(line)["result"])
                has_begun.set()
        return found

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(follow(*one)) for one in zip(paths, have_begun, strict=True)]
        for event in have_begun:
            async with asyncio.timeout(60):
                await event.wait()
        await report(master, first, {"a": 2, "b": 1}, steps=2)
        await report(master, second, {"a": 0}, steps=3)
        await end(database, experiment_id)

    names, batches, shots, samples = [task.result() for task in tasks]
    told = [one["name"] for names_told in names for one in names_told["metricNames"]]
    assert told == ["a", "b"]
    assert [names_told["searcherMetrics"] for names_told in names][:2] == [["loss"], []]
    assert [step for told in batches for step in told["batches"]] == [1, 2, 3]
    by_trial = {one["trialId"]: one["metric"] for told in shots for one in told["trials"]}
    assert by_trial == {first: 2, second: 0}
    assert samples[0]["promotedTrials"] == [first]
    assert (samples[-1]["promotedTrials"], samples[-1]["demotedTrials"]) == ([second], [first])


async def test_streams_of_nothing(master: MasterUnderTest, database: Database) -> None:
    experiment_id = await add_experiment(database, ended_at=ENDED)
    stream = STREAM.format(experiment_id)
    for path, status in (
        ("/experiments/metrics-stream/metric-names", 400),
        ("/experiments/metrics-stream/metric-names?ids=99", 404),
        (f"{stream}/batches", 400),
        (f"{stream}/batches?metricName=a%22b", 400),
        (f"{stream}/trials-snapshot?metricName=a&batchesMargin=-1", 400),
        (f"{stream}/trials-sample?metricName=a&maxTrials=99999", 400),
        (f"{STREAM.format(99)}/trials-sample?metricName=a", 404),
    ):
        answer = await master.call("GET", path)
        status_told = answer.status if answer.status != 200 else answer.json["error"]["httpCode"]
        assert (path, status_told) == (path, status)
