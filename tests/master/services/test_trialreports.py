"""What trials report: taken once, joined, refused, rolled back, summed up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from shipway_master.store.database import Database, opened
from tests.master.reporting import begin_run, begin_trial, load_trial, report, reports, send
from tests.master.running import MasterUnderTest
from tests.proto.required import missing_required


@pytest.fixture
async def database(master: MasterUnderTest) -> AsyncGenerator[Database]:
    """Open the database beside the master."""
    async with opened(master.database_url) as database:
        yield database


@pytest.fixture
async def trial_id(database: Database) -> int:
    """Let a trial run, which is judged by its loss; the smaller the better."""
    return await begin_trial(database)


async def test_a_report_comes_back_as_it_was_sent(master: MasterUnderTest, trial_id: int) -> None:
    metrics = {
        "loss": 0.5,
        "top": 1e300,
        "nan": "NaN",
        "inf": "Infinity",
        "low": "-Infinity",
        "nested": {"a": [1, None, True, "é"]},
        "epoch": 3,
    }
    batches = [{"loss": 1}, {"loss": "NaN"}]

    await report(master, trial_id, metrics, steps=7, batchMetrics=batches)

    [stored] = await reports(master, trial_id, "training")
    assert stored["metrics"] == {"avg_metrics": metrics, "batch_metrics": batches}
    assert (stored["trialId"], stored["trialRunId"], stored["totalBatches"]) == (trial_id, 1, 7)
    assert (stored["group"], stored["archived"]) == ("training", False)
    answer = {"metrics": [stored]}
    assert missing_required("determined.api.v1.GetMetricsResponse", answer) == []


async def test_reports_of_one_step_are_joined(
    master: MasterUnderTest, database: Database, trial_id: int
) -> None:
    await report(master, trial_id, {"a": 1, "b": 2}, group="mine", batchMetrics=[{"a": 1}])

    repeated = await send(master, trial_id, {"a": 1, "b": 2}, group="mine", batchMetrics=[{"a": 1}])
    more = await send(master, trial_id, {"b": 2, "c": 3}, group="mine")
    other = await send(master, trial_id, {"c": 4, "d": 5}, group="mine")
    batches = await send(master, trial_id, {"d": 5}, group="mine", batchMetrics=[{"a": 2}])

    assert [one.status for one in (repeated, more, other, batches)] == [200, 200, 409, 409]
    [stored] = await reports(master, trial_id, "mine")
    assert stored["metrics"] == {
        "avg_metrics": {"a": 1, "b": 2, "c": 3},
        "batch_metrics": [{"a": 1}],
    }
    summary = (await load_trial(database, trial_id)).summary_metrics["mine"]
    assert {name: one["count"] for name, one in summary.items()} == {"a": 1, "b": 1, "c": 1}


async def test_many_trials_report_at_once(master: MasterUnderTest, database: Database) -> None:
    trials = [await begin_trial(database) for _ in range(3)]
    good = [
        send(master, trial, {"loss": step}, group=group, steps=step)
        for trial in trials
        for step in range(1, 6)
        for group in ("training", "validation")
    ]
    bad = [send(master, trials[0], {"loss": 1}, run=2), send(master, 999, {"loss": 1})]

    parts = [send(master, trials[2], {f"m{part}": 1}, group="mine") for part in range(4)]

    answers = await asyncio.gather(*good, *parts, *bad)

    assert [one.status for one in answers] == [200] * 34 + [400, 404]
    [joined] = await reports(master, trials[2], "mine")
    assert joined["metrics"]["avg_metrics"] == {f"m{part}": 1 for part in range(4)}
    for trial in trials:
        row = await load_trial(database, trial)
        summary = row.summary_metrics
        assert summary["avg_metrics"]["loss"]["count"] == 5
        assert summary["validation_metrics"]["loss"]["sum"] == 15
        assert (row.total_batches, row.searcher_metric) == (5, 1)
        assert len(await reports(master, trial, "training")) == 5


async def test_validations_judge_a_trial(
    master: MasterUnderTest, database: Database, trial_id: int
) -> None:
    for steps, metrics in (
        (1, {"loss": 3}),
        (2, {"loss": 2, "other": 1}),
        (3, {"loss": "NaN"}),
        (4, {"loss": 2}),
        (5, {"other": 0}),
    ):
        await report(master, trial_id, metrics, group="validation", steps=steps)
    await report(master, trial_id, {"loss": 0.1}, steps=6)

    row = await load_trial(database, trial_id)

    by_step = {one["totalBatches"]: one["id"] for one in await reports(master, trial_id)}
    assert (row.searcher_metric, row.best_validation_id) == (2, by_step[2])
    assert (row.latest_validation_id, row.total_batches) == (by_step[4], 6)


async def test_a_newer_run_rolls_back_what_it_goes_over_again(
    master: MasterUnderTest, database: Database, trial_id: int
) -> None:
    for steps in (10, 20, 30):
        await report(master, trial_id, {"loss": steps}, steps=steps)
        await report(master, trial_id, {"x": steps}, group="mine", steps=steps)
        await report(master, trial_id, {"loss": 50 - steps}, group="validation", steps=steps)
    await report(master, trial_id, {"agent": {"free": 1}}, group="memory", steps=None)
    await begin_run(database, trial_id, 2)

    late = await send(master, trial_id, {"loss": 1}, steps=40, run=1)
    await report(master, trial_id, {"loss": 5}, steps=20, run=2)

    assert late.status == 400
    left = {
        (one["group"], one["totalBatches"], one["trialRunId"])
        for one in await reports(master, trial_id)
    }
    assert left == {
        ("training", 10, 1),
        ("training", 20, 2),
        ("mine", 10, 1),
        ("mine", 20, 1),
        ("validation", 10, 1),
        ("validation", 20, 1),
        ("memory", 0, 1),
    }
    row = await load_trial(database, trial_id)
    assert (row.total_batches, row.searcher_metric) == (20, 30)
    assert row.best_validation_id == row.latest_validation_id
    training = row.summary_metrics["avg_metrics"]["loss"]
    assert training == {
        "type": "number", "count": 2, "sum": 15, "min": 5, "max": 10, "mean": 7.5, "last": 5
    }  # fmt: skip
    assert row.summary_metrics["mine"]["x"]["count"] == 2
    assert row.summary_metrics["memory"]["agent.free"]["count"] == 1

    await report(master, trial_id, {"loss": 1}, group="validation", steps=10, run=2)
    await report(master, trial_id, {"y": 1}, group="other", steps=15, run=2)

    assert [one["trialRunId"] for one in await reports(master, trial_id, "validation")] == [2]
    assert len(await reports(master, trial_id, "mine")) == 1
    row = await load_trial(database, trial_id)
    assert (row.searcher_metric, row.total_batches) == (1, 20)
