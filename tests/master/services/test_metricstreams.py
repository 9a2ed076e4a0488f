"""Metrics of whole experiments, as they turn up."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import pytest

from shipway_master.store.database import Database, opened
from tests.master.experiments_in_store import add_experiment
from tests.master.reporting import begin_trial, report, results
from tests.master.running import MasterUnderTest
from tests.proto.required import missing_required

STREAM = "/experiments/{}/metrics-stream"
ENDED = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture
async def database(master: MasterUnderTest) -> AsyncGenerator[Database]:
    """Open the database beside the master."""
    async with opened(master.database_url) as database:
        yield database


async def read(master: MasterUnderTest, path: str, message: str) -> list[Any]:
    """Read a stream to its end, and check the form of its messages."""
    found = await results(master, path)
    for one in found:
        assert missing_required(f"determined.api.v1.{message}", one) == []
    return found


async def test_an_experiment_that_is_over_is_told_at_once(
    master: MasterUnderTest, database: Database
) -> None:
    experiment_id = await add_experiment(database, ended_at=ENDED)
    first, second, third = [
        await begin_trial(database, experiment_id=experiment_id, hparams={"lr": number})
        for number in range(3)
    ]
    for trial_id, values in ((first, (5, 4, 3)), (second, (3, 2, 1)), (third, (9, 9, 9))):
        for step, value in enumerate(values):
            steps = 10 * (step + 1) + trial_id
            metrics = {"loss": value, "deep": {"er": 1}}
            await report(master, trial_id, metrics, group="validation", steps=steps)
    await report(master, first, {"x": 1}, steps=1)
    stream = STREAM.format(experiment_id)

    path = f"/experiments/metrics-stream/metric-names?ids={experiment_id}"
    [names] = await read(master, path, "ExpMetricNamesResponse")
    assert names == {
        "searcherMetrics": ["loss"],
        "trainingMetrics": ["x"],
        "validationMetrics": ["deep.er", "loss"],
        "metricNames": [
            {"group": "training", "name": "x"},
            {"group": "validation", "name": "deep.er"},
            {"group": "validation", "name": "loss"},
        ],
    }

    for name, group, expected in (
        ("loss", "group=validation", sorted(n + t for t in (first, second, third) for n in (10, 20, 30))),
        ("deep.er", "metricType=METRIC_TYPE_VALIDATION", None),
        ("x", "group=training", [1]),
        ("none", "group=training", []),
    ):  # fmt: skip
        path = f"{stream}/batches?metricName={name}&{group}"
        [found] = await read(master, path, "MetricBatchesResponse")
        assert expected is None or found["batches"] == expected
        assert expected is not None or len(found["batches"]) == 9

    path = f"{stream}/trials-snapshot?metricName=loss&group=validation"
    [shot] = await read(
        master, f"{path}&batchesProcessed={20 + second}&batchesMargin=1", "TrialsSnapshotResponse"
    )
    assert {one["trialId"]: one["metric"] for one in shot["trials"]} == {
        first: 4, second: 2, third: 9
    }  # fmt: skip
    assert {
        "trialId": first,
        "hparams": {"lr": 0},
        "metric": 4,
        "batchesProcessed": 20 + first,
    } in (shot["trials"])

    path = f"{stream}/trials-sample?metricName=loss&group=validation&maxTrials=2&maxDatapoints=2"
    [sample] = await read(master, path, "TrialsSampleResponse")
    assert (sample["promotedTrials"], sample["demotedTrials"]) == (sorted([first, second]), [])
    curves = {
        one["trialId"]: [point["values"]["loss"] for point in one["data"]]
        for one in sample["trials"]
    }
    assert curves == {first: [5, 3], second: [3, 1]}
