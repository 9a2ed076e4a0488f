"""Which checkpoints trials use, and what was measured by that."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import pytest

from shipway_master.store.checkpoints import CheckpointRow
from shipway_master.store.database import Database, opened
from shipway_master.store.models import ModelRow, ModelVersionRow
from tests.master.reporting import begin_trial, report
from tests.master.running import USER_ID, MasterUnderTest
from tests.proto.required import missing_required

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def database(master: MasterUnderTest) -> AsyncGenerator[Database]:
    """Open the database beside the master."""
    async with opened(master.database_url) as database:
        yield database


async def register(database: Database, trial_id: int) -> tuple[str, int]:
    """Write down a checkpoint of a trial, the second version of a model; return UUID and model."""
    checkpoint = CheckpointRow(
        uuid=str(uuid.uuid4()),
        task_id="t",
        trial_id=trial_id,
        state="COMPLETED",
        reported_at=NOW,
        resources={},
        meta={},
        steps_completed=1,
        size_bytes=0,
    )
    dates = {"user_id": USER_ID, "created_at": NOW, "updated_at": NOW}
    model = ModelRow(name="net", meta={}, labels=[], workspace_id=1, newest_version=2, **dates)
    async with database.writing() as session:
        session.add_all([checkpoint, model])
        await session.flush()
        version = {"model_id": model.id, "number": 2, "checkpoint_id": checkpoint.id}
        session.add(ModelVersionRow(meta={}, labels=[], **version, **dates))
    return checkpoint.uuid, model.id


async def test_metrics_of_those_who_use_a_checkpoint(
    master: MasterUnderTest, database: Database
) -> None:
    maker, first, second = [await begin_trial(database) for _ in range(3)]
    checkpoint, model = await register(database, maker)
    for trial_id in (maker, first, second):
        await report(master, trial_id, {"a": trial_id}, group="inference")
        await report(master, trial_id, {"b": trial_id}, group="validation")

    async def use(trial_id: int, kind: str, **more: Any) -> tuple[int, Any]:
        kind = f"TRIAL_SOURCE_INFO_TYPE_{kind}"
        told = {"trialId": trial_id, "checkpointUuid": checkpoint, "trialSourceInfoType": kind}
        body = {"trialSourceInfo": {**told, **more}}
        answer = await master.call("POST", "/trial-source-info", body)
        return answer.status, answer.json

    async def read(path: str) -> list[tuple[int, str]]:
        answer = await master.call("GET", path)
        assert missing_required("determined.api.v1.GetMetricsResponse", answer.json) == []
        return [(one["trialId"], one["group"]) for one in answer.json["metrics"]]

    said = 200, {"trialId": first, "checkpointUuid": checkpoint}
    assert await use(first, "FINE_TUNING") == said
    assert await use(first, "INFERENCE", modelId=model, modelVersion=2) == said
    assert (await use(second, "FINE_TUNING"))[0] == 200
    wrong: list[tuple[int, str, dict[str, Any], int]] = [
        (first, "UNSPECIFIED", {}, 400),
        (first, "INFERENCE", {"modelId": model}, 400),
        (first, "INFERENCE", {"modelId": model, "modelVersion": 1}, 404),
        (first, "INFERENCE", {"checkpointUuid": str(uuid.uuid4())}, 404),
        (first, "INFERENCE", {"checkpointUuid": "../x"}, 400),
        (999, "INFERENCE", {}, 404),
    ]
    for trial_id, kind, more, status in wrong:
        assert (await use(trial_id, kind, **more))[0] == status

    path = f"/checkpoints/{checkpoint}/metrics"
    assert await read(f"{path}?metricGroup=inference") == [
        (first, "inference"),
        (second, "inference"),
    ]
    inference = "trialSourceInfoType=TRIAL_SOURCE_INFO_TYPE_INFERENCE"
    both = [(first, "inference"), (first, "validation")]
    assert sorted(await read(f"{path}?{inference}")) == both
    for name in ("net", str(model)):
        assert sorted(await read(f"/models/{name}/versions/2/metrics")) == both
    for path in (
        f"/checkpoints/{uuid.uuid4()}/metrics",
        "/models/none/versions/2/metrics",
        "/models/net/versions/1/metrics",
    ):
        assert (await master.call("GET", path)).status == 404
