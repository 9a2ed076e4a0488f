"""Trials that report, and what a master then knows of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from shipway_master.store.database import Database
from shipway_master.store.experiments import TrialRow
from tests.master.experiments_in_store import add_experiment, add_trial
from tests.master.running import Answer, MasterUnderTest


async def begin_trial(database: Database, **changes: Any) -> int:
    """Put a trial into its first run, in an experiment of its own."""
    experiment_id = changes.pop("experiment_id", None) or await add_experiment(database)
    return await add_trial(database, experiment_id, **{"run": 1, "state": "RUNNING", **changes})


async def begin_run(database: Database, trial_id: int, run: int) -> None:
    """Let the next run of a trial begin."""
    async with database.writing() as session:
        (await session.get_one(TrialRow, trial_id)).run = run


async def load_trial(database: Database, trial_id: int) -> TrialRow:
    """Load what is known of a trial."""
    async with database.reading() as session:
        return await session.get_one(TrialRow, trial_id)


async def send(
    master: MasterUnderTest,
    trial_id: int,
    metrics: Mapping[str, Any],
    *,
    group: str = "training",
    steps: int | None = 1,
    run: int = 1,
    token: str | None = "user",
    **more: Any,
) -> Answer:
    """Report as the harness does."""
    batches = more.pop("batchMetrics", None)
    body = {
        "group": group,
        "metrics": {
            "trialId": trial_id,
            "trialRunId": run,
            "stepsCompleted": steps,
            "reportTime": None,
            "metrics": {"avgMetrics": metrics, "batchMetrics": batches},
            **more,
        },
    }
    return await master.call("POST", f"/trials/{trial_id}/metrics", body, token=token)


async def report(
    master: MasterUnderTest, trial_id: int, metrics: Mapping[str, Any], **more: Any
) -> None:
    """Report what must be taken."""
    answer = await send(master, trial_id, metrics, **more)
    assert (answer.status, answer.json) == (200, {}), answer.body


async def results(master: MasterUnderTest, path: str) -> list[Any]:
    """Read a whole stream of results."""
    answer = await master.call("GET", path)
    assert answer.status == 200, answer.body
    return [json.loads(line)["result"] for line in answer.body.splitlines()]


async def reports(master: MasterUnderTest, trial_id: int, group: str = "") -> list[Any]:
    """Read the reports of a trial."""
    path = f"/trials/metrics/trial_metrics?trialIds={trial_id}&group={group}"
    return [one for result in await results(master, path) for one in result["metrics"]]
