"""Profiler metrics: posted in batches, read series by series."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import update

from shipway_master.auth import Authenticator
from shipway_master.store.database import opened
from shipway_master.store.experiments import TrialRow
from tests.master.experiments_in_store import add_experiment, add_trial
from tests.master.running import USER_ID, MasterUnderTest
from tests.proto.required import missing_required


def batch(name: str = "gpu_util", *, trial: int = 7, gpu: str = "", start: int = 0) -> Any:
    """Build a batch of two readings."""
    return {
        "values": [0.1 + start, "NaN"],
        "batches": [start, start + 1],
        "timestamps": ["2026-01-02T03:04:05.5Z", "2026-01-02T03:04:06Z"],
        "labels": {
            "trialId": trial,
            "name": name,
            "agentId": "a",
            "gpuUuid": gpu,
            "metricType": "PROFILER_METRIC_TYPE_SYSTEM",
        },
    }


@pytest.fixture(autouse=True)
async def trials(master: MasterUnderTest) -> None:
    """Have trials 7 and 8, whose tasks are t7 and t8."""
    async with opened(master.database_url) as database:
        experiment_id = await add_experiment(database)
        for trial_id in (7, 8):
            await add_trial(database, experiment_id, id=trial_id, task_id=f"t{trial_id}")


async def post(master: MasterUnderTest, *batches: Any) -> None:
    """Post batches."""
    answer = await master.call("POST", "/trials/profiler/metrics", {"batches": batches})
    assert (answer.status, answer.json) == (200, {})


async def results(master: MasterUnderTest, path: str) -> list[Any]:
    """Read a whole stream of results."""
    answer = await master.call("GET", path)
    assert answer.status == 200
    return [json.loads(line)["result"] for line in answer.body.splitlines()]


async def test_readings_come_back_by_series(master: MasterUnderTest) -> None:
    await post(master, batch(gpu="g0"), batch(gpu="g1", start=1), batch("cpu"), batch(trial=8))

    one = await results(master, "/trials/7/profiler/metrics?labels.name=gpu_util&labels.gpuUuid=g1")
    all_gpus = await results(master, "/trials/7/profiler/metrics?labels.name=gpu_util")

    assert [result["batch"]["labels"]["gpuUuid"] for result in all_gpus] == ["g0", "g1"]
    assert one == [
        {
            "batch": {
                "values": [1.1, "NaN"],
                "batches": [1, 2],
                "timestamps": ["2026-01-02T03:04:05.500Z", "2026-01-02T03:04:06Z"],
                "labels": batch(gpu="g1")["labels"],
            }
        }
    ]
    assert missing_required("determined.api.v1.GetTrialProfilerMetricsResponse", one[0]) == []


async def test_the_series_of_a_trial_are_listed_once(master: MasterUnderTest) -> None:
    await post(master, batch(gpu="g1"), batch(gpu="g0"), batch(gpu="g1", start=5), batch("cpu"))

    [answer] = await results(master, "/trials/7/profiler/available_series")

    names = [(label["name"], label["gpuUuid"]) for label in answer["labels"]]
    assert names == [("cpu", ""), ("gpu_util", "g0"), ("gpu_util", "g1")]
    [nothing] = await results(master, "/trials/9/profiler/available_series")
    assert nothing == {"labels": []}


@pytest.mark.parametrize(
    ("path", "first", "second"),
    [
        ("/trials/7/profiler/metrics?labels.name=cpu&follow=true", batch("cpu"), batch("cpu")),
        ("/trials/7/profiler/available_series?follow=true", batch("cpu"), batch("net")),
    ],
    ids=["metrics", "series"],
)
async def test_following(master: MasterUnderTest, path: str, first: Any, second: Any) -> None:
    await post(master, first)
    url = f"{master.url}/api/v1{path}"
    async with asyncio.timeout(60), master.session.get(url, headers=master.auth()) as stream:
        assert b"cpu" in await stream.content.readline()
        await post(master, batch("other", trial=8))
        await post(master, second)
        assert second["labels"]["name"].encode() in await stream.content.readline()


@pytest.mark.parametrize("path", ["metrics", "available_series"])
async def test_following_ends_with_the_trial(master: MasterUnderTest, path: str) -> None:
    await post(master, batch("cpu"))
    url = f"{master.url}/api/v1/trials/7/profiler/{path}?follow=true"
    async with asyncio.timeout(60), master.session.get(url, headers=master.auth()) as stream:
        assert b"cpu" in await stream.content.readline()
        async with opened(master.database_url) as database, database.writing() as session:
            end = update(TrialRow).where(TrialRow.id == 7).values(ended_at=datetime.now(UTC))
            await session.execute(end)
        await post(master, batch("late"))
        assert b"late" in await stream.content.read()


@pytest.mark.parametrize("path", ["metrics", "available_series"])
async def test_following_what_does_not_come_any_more_is_reading(
    master: MasterUnderTest, path: str
) -> None:
    async with asyncio.timeout(60):
        nothing = await results(master, f"/trials/9/profiler/{path}?follow=true")
    assert nothing == ([] if path == "metrics" else [{"labels": []}])


@pytest.mark.parametrize(
    "change",
    [
        {"labels": None},
        {"labels": {"trialId": 7}},
        {"labels": {"name": "cpu"}},
        {"timestamps": []},
        {"batches": [1]},
        {"values": ["x", 1]},
    ],
    ids=str,
)
async def test_wrong_batches_are_refused_whole(master: MasterUnderTest, change: Any) -> None:
    body = {"batches": [batch(), {**batch(), **change}]}

    answer = await master.call("POST", "/trials/profiler/metrics", body)

    assert (answer.status, answer.error["code"]) == (400, 3)
    assert await results(master, "/trials/7/profiler/metrics") == []


@pytest.mark.parametrize(("task_id", "status"), [("t7", 200), ("t8", 401), ("other", 401)])
async def test_the_last_readings_of_a_trial_come_after_its_end(
    master: MasterUnderTest, task_id: str, status: int
) -> None:
    async with opened(master.database_url) as database:
        authenticator = Authenticator(database)
        token = await authenticator.issue_allocation_token(f"{task_id}.1", owner_id=USER_ID)
        await authenticator.end_allocation_tokens(f"{task_id}.1")

    body = {"batches": [batch()]}
    answer = await master.call("POST", "/trials/profiler/metrics", body, token=token)

    assert answer.status == status
