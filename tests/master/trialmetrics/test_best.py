"""The best of many trials."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from shipway_master.store.database import Database, opened
from tests.master.experiments_in_store import add_experiment
from tests.master.reporting import begin_run, begin_trial, report
from tests.master.running import MasterUnderTest
from tests.proto.required import missing_required


@pytest.fixture
async def database(master: MasterUnderTest) -> AsyncGenerator[Database]:
    """Open the database beside the master."""
    async with opened(master.database_url) as database:
        yield database


async def ask(master: MasterUnderTest, path: str, message: str) -> Any:
    """Ask, and check the form of the answer."""
    answer = await master.call("GET", path)
    assert answer.status == 200, answer.body
    assert missing_required(f"determined.api.v1.{message}", answer.json) == []
    return answer.json


async def test_the_best_of_an_experiment(master: MasterUnderTest, database: Database) -> None:
    searcher = {"name": "random", "metric": "acc", "smaller_is_better": False}
    experiment_id = await add_experiment(database, config={"searcher": searcher})
    best = f"/experiments/{experiment_id}/searcher/best_searcher_validation_metric"
    nothing = await master.call("GET", best)
    trials = [await begin_trial(database, experiment_id=experiment_id) for _ in range(2)]
    for step, (trial_id, value) in enumerate(
        [(0, 0.25), (1, 0.125), (1, "NaN"), (1, 0.5), (0, 0.5), (0, 0.75)]
    ):
        await report(
            master,
            trials[trial_id],
            {"acc": value, "x": step},
            group="validation",
            steps=step,
            reportTime=f"2026-01-02T03:04:0{step}Z",
        )

    history = await ask(
        master,
        f"/experiments/{experiment_id}/validation-history",
        "GetExperimentValidationHistoryResponse",
    )

    assert nothing.status == 404
    assert (await ask(master, best, "GetBestSearcherValidationMetricResponse"))["metric"] == 0.75
    assert [
        (one["trialId"], one["searcherMetric"], one["endTime"])
        for one in history["validationHistory"]
    ] == [
        (trials[0], 0.25, "2026-01-02T03:04:00Z"),
        (trials[1], 0.5, "2026-01-02T03:04:03Z"),
        (trials[0], 0.75, "2026-01-02T03:04:05Z"),
    ]
    ranges = await ask(
        master,
        "/projects/1/experiments/metric-ranges",
        "GetProjectNumericMetricsRangeResponse",
    )
    assert ranges == {
        "ranges": [
            {"metricsName": "validation.acc", "min": 0.125, "max": 0.75},
            {"metricsName": "validation.x", "min": 0, "max": 5},
        ]
    }


async def test_there_is_no_best_of_what_is_not_there(master: MasterUnderTest) -> None:
    for path in (
        "/experiments/99/searcher/best_searcher_validation_metric",
        "/experiments/99/validation-history",
        "/projects/99/experiments/metric-ranges",
    ):
        assert (await master.call("GET", path)).status == 404


async def test_the_best_trial_is_known_also_when_it_gets_worse_again(
    master: MasterUnderTest, database: Database
) -> None:
    experiment_id = await add_experiment(database)
    first, second = [await begin_trial(database, experiment_id=experiment_id) for _ in range(2)]
    bests: list[int | None] = []

    async def validate(trial_id: int, loss: float, *, steps: int, run: int = 1) -> None:
        await report(master, trial_id, {"loss": loss}, group="validation", steps=steps, run=run)
        answer = await master.call("GET", f"/experiments/{experiment_id}")
        bests.append(answer.json["experiment"].get("bestTrialId"))

    await validate(first, 0.5, steps=1)
    await validate(second, 0.75, steps=1)
    await validate(second, 0.25, steps=2)
    await begin_run(database, second, 2)
    await validate(second, 0.875, steps=2, run=2)

    assert bests == [first, first, second, first]
