"""The steps of a trial in one list."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import insert

from shipway_master.store.checkpoints import CheckpointRow
from shipway_master.store.database import Database, opened
from tests.master.reporting import begin_trial, report
from tests.master.running import MasterUnderTest
from tests.proto.required import missing_required


@pytest.fixture
async def database(master: MasterUnderTest) -> AsyncGenerator[Database]:
    """Open the database beside the master."""
    async with opened(master.database_url) as database:
        yield database


async def add_checkpoint(database: Database, trial_id: int, steps: int, state: str) -> None:
    """Write down a checkpoint."""
    values = {
        "uuid": str(uuid.uuid4()),
        "task_id": "t",
        "trial_id": trial_id,
        "state": state,
        "reported_at": datetime.now(UTC),
        "resources": {"a": 5},
        "meta": {"steps_completed": steps},
        "steps_completed": steps,
        "size_bytes": 5,
    }
    async with database.writing() as session:
        await session.execute(insert(CheckpointRow).values(values))


@pytest.fixture
async def trial_id(master: MasterUnderTest, database: Database) -> int:
    """Let a trial do this and that."""
    trial_id = await begin_trial(database)
    for steps, loss in ((1, 0.5), (2, 0.25), (3, 0.75)):
        batches = [{"loss": loss}]
        await report(master, trial_id, {"loss": loss}, steps=steps, batchMetrics=batches)
    await report(master, trial_id, {"loss": 0.1, "a.b": 1}, group="validation", steps=2)
    await report(master, trial_id, {"a": {"b": 2}}, group="mine", steps=3)
    await report(master, trial_id, {"free": 1}, group="memory", steps=None)
    await add_checkpoint(database, trial_id, 2, "COMPLETED")
    await add_checkpoint(database, trial_id, 3, "DELETED")
    return trial_id


async def ask(master: MasterUnderTest, trial_id: int, query: str = "") -> Any:
    """List the steps, and check the form of the answer."""
    answer = await master.call("GET", f"/trials/{trial_id}/workloads?{query}")
    assert answer.status == 200, answer.body
    assert missing_required("determined.api.v1.GetTrialWorkloadsResponse", answer.json) == []
    return answer.json


def name(workload: Any) -> str:
    """Call a step by its kind and number."""
    [(kind, step)] = [(kind, step) for kind, step in workload.items() if step]
    return f"{kind[0]}{step['totalBatches']}"


async def test_a_trial_shows_its_steps_in_any_order(master: MasterUnderTest, trial_id: int) -> None:
    cases = {
        "": "t1 t2 v2 c2 t3 t3 c3",
        "orderBy=ORDER_BY_DESC&limit=3": "c3 t3 t3",
        "offset=-2": "t3 c3",
        "offset=3&limit=2": "c2 t3",
        "offset=99": "",
        "limit=-2": "",
        "limit=-1&removeDeletedCheckpoints=true": "t1 t2 v2 c2 t3 t3",
        "filter=FILTER_OPTION_CHECKPOINT": "c2 c3",
        "filter=FILTER_OPTION_VALIDATION": "v2",
        "filter=FILTER_OPTION_CHECKPOINT_OR_VALIDATION": "v2 c2 c3",
        "group=mine&removeDeletedCheckpoints=true": "c2 t3",
        "metricType=METRIC_TYPE_VALIDATION": "v2 c2 c3",
        "sortKey=loss": "v2 t2 t1 t3 c2 t3 c3",
        "sortKey=loss&orderBy=ORDER_BY_DESC&limit=2": "t3 t1",
        "sortKey=a.b": "v2 t3 t1 t2 c2 t3 c3",
        "sortKey=batches&limit=1": "t1",
    }
    for query, expected in cases.items():
        found = await ask(master, trial_id, query)
        assert (query, " ".join(map(name, found["workloads"]))) == (query, expected)
        total = 7 if not ("filter" in query or "remove" in query or "Type" in query) else None
        if total:
            assert found["pagination"]["total"] == total

    [first, *_] = (await ask(master, trial_id, "includeBatchMetrics=true"))["workloads"]
    assert first["training"]["metrics"] == {
        "avgMetrics": {"loss": 0.5},
        "batchMetrics": [{"loss": 0.5}],
    }
    [first, *_] = (await ask(master, trial_id))["workloads"]
    assert first["training"]["metrics"]["batchMetrics"] == []
    [_, _, _, checkpoint, *_] = (await ask(master, trial_id))["workloads"]
    assert checkpoint["checkpoint"]["resources"] == {"a": "5"}
    assert checkpoint["checkpoint"]["metadata"] == {"steps_completed": 2}
    assert (await master.call("GET", "/trials/999/workloads")).status == 404
