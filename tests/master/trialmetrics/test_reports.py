"""Reports of trials: their forms, what is wrong with them, and who may send them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from shipway_master.auth import Authenticator
from shipway_master.store.database import Database, opened
from tests.master.experiments_in_store import add_experiment
from tests.master.reporting import begin_trial, load_trial, report, reports, send
from tests.master.running import USER_ID, MasterUnderTest


@pytest.fixture
async def database(master: MasterUnderTest) -> AsyncGenerator[Database]:
    """Open the database beside the master."""
    async with opened(master.database_url) as database:
        yield database


@pytest.fixture
async def trial_id(database: Database) -> int:
    """Let a trial run."""
    return await begin_trial(database)


async def test_validations_are_found_under_both_of_their_names(
    master: MasterUnderTest, trial_id: int
) -> None:
    await report(master, trial_id, {"loss": 1}, group="validation")

    [stored] = await reports(master, trial_id)

    assert stored["metrics"] == {"avg_metrics": {"loss": 1}, "validation_metrics": {"loss": 1}}


async def test_old_clients_report_by_calls_of_their_own(
    master: MasterUnderTest, trial_id: int
) -> None:
    for kind, metrics in (("training", {"a": 1}), ("validation", {"b": 2})):
        body = {"trialRunId": 1, "stepsCompleted": 3, "metrics": {"avgMetrics": metrics}}
        path = f"/trials/{trial_id}/{kind}_metrics"
        assert (await master.call("POST", path, body)).json == {}

    found = {one["group"]: one["metrics"]["avg_metrics"] for one in await reports(master, trial_id)}

    assert found == {"training": {"a": 1}, "validation": {"b": 2}}


async def test_the_larger_is_the_better_one_where_the_experiment_says_so(
    master: MasterUnderTest, database: Database
) -> None:
    searcher = {"name": "single", "metric": "val.acc", "smaller_is_better": False}
    experiment_id = await add_experiment(database, config={"searcher": searcher})
    trial_id = await begin_trial(database, experiment_id=experiment_id)

    for steps, value in ((1, 0.5), (2, "Infinity"), (3, 7)):
        await report(master, trial_id, {"val": {"acc": value}}, group="validation", steps=steps)

    assert (await load_trial(database, trial_id)).searcher_metric == float("inf")


WRONG: list[tuple[dict[str, Any], int]] = [
    ({"group": ""}, 400),
    ({"group": "a.b"}, 400),
    ({"group": "avg_metrics"}, 400),
    ({"group": "x" * 300}, 400),
    ({"steps": -1}, 400),
    ({"steps": None}, 400),
    ({"metrics": {"epoch": "three"}}, 400),
    ({"metrics": {"epochs": None}}, 400),
    ({"metrics": {"a\0b": 1}}, 400),
    ({"metrics": {"a": [{"b": "\0"}]}}, 400),
    ({"batchMetrics": [{"a": "\0"}]}, 400),
    ({"run": 0}, 400),
    ({"run": 2}, 400),
    ({"token": None}, 401),
]


async def test_what_is_wrong_is_refused_whole(master: MasterUnderTest, trial_id: int) -> None:
    for change, status in WRONG:
        answer = await send(master, trial_id, **{"metrics": {"a": 1}, **change})
        assert (answer.status, change) == (status, change)

    assert await reports(master, trial_id) == []


async def test_readings_of_hardware_have_a_time_instead_of_a_step(
    master: MasterUnderTest, trial_id: int
) -> None:
    for second in (5, 6):
        await report(
            master,
            trial_id,
            {"node": {"GPU-1": {"gpu_util": second}}},
            group="gpu",
            steps=None,
            reportTime=f"2026-01-02T03:04:0{second}.250000+00:00",
        )

    stored = await reports(master, trial_id, "gpu")

    assert [one["endTime"] for one in stored] == [
        "2026-01-02T03:04:05.250Z",
        "2026-01-02T03:04:06.250Z",
    ]
    assert [one["totalBatches"] for one in stored] == [0, 0]


async def test_a_trial_reports_for_itself_alone(
    master: MasterUnderTest, database: Database
) -> None:
    first = await begin_trial(database, task_id="first")
    second = await begin_trial(database, task_id="second")
    authenticator = Authenticator(database)
    tokens = {
        task: await authenticator.issue_allocation_token(f"{task}.1", owner_id=USER_ID)
        for task in ("first", "notebook")
    }
    theirs = await begin_trial(database, experiment_id=await add_experiment(database, owner_id=1))

    async def status(token: str, trial_id: int) -> int:
        return (await send(master, trial_id, {"a": 1}, token=token)).status

    assert await status(tokens["first"], first) == 200
    assert await status(tokens["first"], second) == 403
    assert await status(tokens["notebook"], second) == 200
    assert await status(tokens["notebook"], theirs) == 403
    assert await status("user", theirs) == 403
    assert await status("admin", theirs) == 200


async def test_streams_need_trials(master: MasterUnderTest) -> None:
    for kind in ("trial", "training", "validation"):
        path = f"/trials/metrics/{kind}_metrics"
        assert (await master.call("GET", f"{path}?trialIds=999")).status == 404
        assert (await master.call("GET", f"{path}?group=x")).status == 400
