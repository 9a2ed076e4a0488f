"""Experiments and trials are listed and found, over REST."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import pytest

from shipway_master.store.checkpoints import CheckpointRow
from shipway_master.store.database import Database, opened
from shipway_master.store.experiments import TrialRow
from shipway_master.store.trialmetrics import TrialMetricRow
from tests.master.experiments_in_store import STARTED, add_experiment, add_trial
from tests.master.running import ADMIN_ID, MasterUnderTest
from tests.proto.required import missing_required


@pytest.fixture
async def database(master: MasterUnderTest) -> AsyncGenerator[Database]:
    """Open the master's database beside it."""
    async with opened(master.database_url) as database:
        yield database


async def _ask(master: MasterUnderTest, path: str) -> Any:
    answer = await master.call("GET", path, token="user")
    assert answer.status == 200, answer.body
    return answer.json


async def _list(master: MasterUnderTest, query: str) -> list[int]:
    answer = await _ask(master, f"/experiments?{query}")
    assert missing_required("determined.api.v1.GetExperimentsResponse", answer) == []
    return [one["id"] for one in answer["experiments"]]


async def test_experiments_are_listed(master: MasterUnderTest, database: Database) -> None:
    await add_experiment(database, name="Alpha", labels=["x", "y"], state="COMPLETED")
    await add_experiment(database, name="beta", labels=["x"], progress=0.5, description="50%")
    await add_experiment(
        database,
        owner_id=ADMIN_ID,
        archived=True,
        started_at=STARTED - timedelta(days=1),
        state="ERROR",
    )
    await add_trial(database, 2)
    await add_trial(database, 2, checkpoint_bytes=5, checkpoint_count=1)
    await add_trial(database, 3)

    for query, ids in (
        ("", [1, 2, 3]),
        ("orderBy=ORDER_BY_DESC", [3, 2, 1]),
        ("archived=false&users=determined", [1, 2]),
        ("archived=true", [3]),
        ("userIds=1", [3]),
        ("users=nobody", []),
        ("name=ALPHA", [1]),
        ("description=0%25", [2]),
        ("labels=x&labels=y", [1]),
        ("labels=z", []),
        ("states=STATE_ERROR&states=STATE_COMPLETED", [1, 3]),
        ("states=STATE_ACTIVE", [2]),
        ("states=STATE_QUEUED", [2]),
        ("states=STATE_RUNNING&states=STATE_ERROR", [3]),
        ("projectId=1&limit=1&offset=1", [2]),
        ("projectId=77", []),
        ("offset=-1", [3]),
        ("limit=-2", []),
        ("limit=-1", [1, 2, 3]),
        ("experimentIdFilter.gte=2&experimentIdFilter.notIn=3", [2]),
        ("experimentIdFilter.incl=1&experimentIdFilter.incl=3", [1, 3]),
        ("sortBy=SORT_BY_NUM_TRIALS&orderBy=ORDER_BY_DESC", [2, 3, 1]),
        ("sortBy=SORT_BY_START_TIME", [3, 1, 2]),
        ("sortBy=SORT_BY_PROGRESS&orderBy=ORDER_BY_DESC", [2, 3, 1]),
        ("sortBy=SORT_BY_CHECKPOINT_SIZE&orderBy=ORDER_BY_DESC", [2, 3, 1]),
        ("sortBy=SORT_BY_USER", [3, 1, 2]),
        ("sortBy=SORT_BY_SEARCHER_METRIC_VAL", [1, 2, 3]),
    ):
        assert await _list(master, query) == ids, query


async def test_an_experiment_is_found(master: MasterUnderTest, database: Database) -> None:
    await add_experiment(database, state="PAUSED")

    answer = await _ask(master, "/experiments/1")

    assert missing_required("determined.api.v1.GetExperimentResponse", answer) == []
    assert answer["experiment"]["state"] == "STATE_PAUSED"
    assert answer["config"] == answer["experiment"]["config"]
    assert answer["config"]["checkpoint_storage"]["secret_key"] == "********"
    assert answer["jobSummary"] is None
    assert (await master.call("GET", "/experiments/2")).status == 404


async def test_labels_are_listed_by_their_use(master: MasterUnderTest, database: Database) -> None:
    await add_experiment(database, labels=["b", "é"])
    await add_experiment(database, labels=["a", "é"])

    assert (await _ask(master, "/experiment/labels"))["labels"] == ["é", "a", "b"]
    assert (await _ask(master, "/experiment/labels?projectId=9"))["labels"] == []


async def test_trials_are_listed(master: MasterUnderTest, database: Database) -> None:
    summary = {"validation_metrics": {"loss": {"last": 3.0, "type": "number"}}}
    await add_experiment(database)
    await add_trial(database, 1, state="COMPLETED", searcher_metric=2.0, restarts=1)
    await add_trial(database, 1, searcher_metric=1.0, summary_metrics=summary)
    await add_trial(database, 1, total_batches=7, log_retention_days=3)

    for query, ids in (
        ("", [1, 2, 3]),
        ("sortBy=SORT_BY_BEST_VALIDATION_METRIC", [2, 1, 3]),
        ("sortBy=SORT_BY_LATEST_VALIDATION_METRIC&orderBy=ORDER_BY_DESC", [2, 3, 1]),
        ("sortBy=SORT_BY_BATCHES_PROCESSED&orderBy=ORDER_BY_DESC", [3, 2, 1]),
        ("sortBy=SORT_BY_RESTARTS&orderBy=ORDER_BY_DESC&limit=1", [1]),
        ("states=STATE_COMPLETED", [1]),
        ("states=STATE_QUEUED", [2, 3]),
        ("offset=5", []),
    ):
        answer = await _ask(master, f"/experiments/1/trials?{query}")
        assert missing_required("determined.api.v1.GetExperimentTrialsResponse", answer) == []
        assert [one["id"] for one in answer["trials"]] == ids, query
    assert (await master.call("GET", "/experiments/2/trials")).status == 404


async def test_a_trial_shows_its_best_validation_and_checkpoint(
    master: MasterUnderTest, database: Database
) -> None:
    await add_experiment(database, external_id="theirs")
    await add_trial(database, 1, external_id="t", checkpoint_count=2)
    async with database.writing() as session:
        for steps, loss in ((10, 0.5), (20, 0.25), (30, 1.0)):
            session.add(
                TrialMetricRow(
                    trial_id=1,
                    group="validation",
                    steps=steps,
                    run=1,
                    reported_at=STARTED,
                    metrics={"loss": loss},
                )
            )
            if steps != 20:
                session.add(_make_checkpoint(steps))
        await session.flush()
        trial = await session.get_one(TrialRow, 1)
        trial.best_validation_id, trial.latest_validation_id = 2, 3

    answer = await _ask(master, "/trials/1")
    by_name = await _ask(master, "/trials/by-external-id/theirs/t")

    assert missing_required("determined.api.v1.GetTrialResponse", answer) == []
    assert by_name == answer
    shown = answer["trial"]
    assert shown["bestValidation"]["metrics"]["avgMetrics"] == {"loss": 0.25}
    assert shown["latestValidation"]["totalBatches"] == 30
    assert shown["bestCheckpoint"]["totalBatches"] == 10
    assert shown["bestCheckpoint"]["resources"] == {"a/": "0", "a/f": "9"}
    assert (await master.call("GET", "/trials/by-external-id/theirs/u")).status == 404


def _make_checkpoint(steps: int) -> CheckpointRow:
    return CheckpointRow(
        uuid=f"00000000-0000-0000-0000-0000000000{steps}",
        task_id="1.t",
        trial_id=1,
        state="COMPLETED",
        reported_at=STARTED,
        resources={"a/": 0, "a/f": 9},
        meta={},
        steps_completed=steps,
        size_bytes=9,
    )
