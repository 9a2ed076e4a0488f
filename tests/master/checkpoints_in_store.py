"""Checkpoints put straight into a master's database, for tests of who reads or removes them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert

from shipway_master.store.checkpoints import CheckpointRow
from shipway_master.store.database import Database
from shipway_master.store.trialmetrics import TrialMetricRow

REPORTED = datetime(2026, 3, 1, 13, tzinfo=UTC)
FILES = {"state/": 0, "state/weights.bin": 70, "metadata.json": 30}


async def add_checkpoint(
    database: Database,
    trial_id: int,
    *,
    steps: int = 10,
    validation: dict[str, Any] | None = None,
    **changes: Any,
) -> str:
    """Write down a checkpoint, with what was measured at its step if given; return its UUID."""
    values: dict[str, Any] = {
        "uuid": str(uuid.uuid4()),
        "task_id": f"task-of-{trial_id}",
        "trial_id": trial_id,
        "state": "COMPLETED",
        "reported_at": REPORTED,
        "resources": FILES,
        "meta": {"steps_completed": steps},
        "steps_completed": steps,
        "size_bytes": 100,
        **changes,
    }
    async with database.writing() as session:
        await session.execute(insert(CheckpointRow).values(values))
    if validation is not None:
        await add_metrics(database, trial_id, validation, steps=steps)
    checkpoint_uuid: str = values["uuid"]
    return checkpoint_uuid


async def add_metrics(
    database: Database,
    trial_id: int,
    metrics: dict[str, Any],
    *,
    steps: int,
    group: str = "validation",
    **changes: Any,
) -> None:
    """Write down what a trial measured at a step."""
    values: dict[str, Any] = {
        "trial_id": trial_id,
        "group": group,
        "steps": steps,
        "run": 1,
        "reported_at": REPORTED,
        "metrics": metrics,
        "archived": False,
        **changes,
    }
    async with database.writing() as session:
        await session.execute(insert(TrialMetricRow).values(values))
