"""Experiments and trials put straight into a master's database, for tests of who reads them."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert

from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow, TrialRow, TrialTaskRow
from tests.master.running import USER_ID

DEFAULT_PROJECT = 1
STARTED = datetime(2026, 3, 1, 12, tzinfo=UTC)
CONFIG: dict[str, Any] = {
    "name": "mnist",
    "searcher": {"name": "random", "metric": "loss", "smaller_is_better": True},
    "hyperparameters": {"lr": {"type": "log", "minval": -4, "maxval": -1, "base": 10}},
    "checkpoint_storage": {"type": "s3", "bucket": "b", "access_key": "AKIA", "secret_key": "s3cr"},
    "data": {"secrets": {"key": "s3cr"}},
}


async def add_experiment(database: Database, **changes: Any) -> int:
    """Write down an experiment that runs, and return its id."""
    config = changes.pop("config", CONFIG)
    values: dict[str, Any] = {
        "job_id": str(uuid.uuid4()),
        "state": "ACTIVE",
        "owner_id": USER_ID,
        "project_id": DEFAULT_PROJECT,
        "name": "mnist",
        "description": "",
        "labels": [],
        "notes": "",
        "config": json.dumps(config),
        "original_config": json.dumps(config),
        "resource_pool": "gpu",
        "manager": "agent",
        "slots_per_trial": 1,
        "priority": 42,
        "seed": 7,
        "archived": False,
        "unmanaged": False,
        "started_at": STARTED,
    }
    async with database.writing() as session:
        statement = insert(ExperimentRow).values({**values, **changes}).returning(ExperimentRow.id)
        return (await session.execute(statement)).scalar_one()


async def add_trial(
    database: Database, experiment_id: int, *, task_id: str | None = None, **changes: Any
) -> int:
    """Write down a trial, which has a task if *task_id* is given, and return its id."""
    values: dict[str, Any] = {
        "experiment_id": experiment_id,
        "project_id": DEFAULT_PROJECT,
        "request_id": str(uuid.uuid4()),
        "state": "ACTIVE",
        "hparams": {"lr": 0.5},
        "seed": 7,
        "run": 0,
        "judged_run": 0,
        "restarts": 0,
        "started_at": STARTED,
        "runner_state": "",
        "excluded_nodes": [],
        "ports": [],
        "archived": False,
        "total_batches": 0,
        "summary_metrics": {},
        "checkpoint_count": 0,
        "checkpoint_bytes": 0,
    }
    async with database.writing() as session:
        statement = insert(TrialRow).values({**values, **changes}).returning(TrialRow.id)
        trial_id = (await session.execute(statement)).scalar_one()
        if task_id is not None:
            task = {"task_id": task_id, "trial_id": trial_id, "number": 1}
            await session.execute(insert(TrialTaskRow).values(task))
    return trial_id
