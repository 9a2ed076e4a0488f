"""Checkpoints asked for and told of over REST."""

from __future__ import annotations

from typing import Any

from shipway_master.store.database import Database
from tests.master.checkpoints_in_store import add_checkpoint
from tests.master.experiments_in_store import CONFIG, add_experiment, add_trial
from tests.master.running import Answer, MasterUnderTest
from tests.proto.required import missing_required

API = "determined.api.v1"


async def report_checkpoint(
    master: MasterUnderTest, checkpoint_uuid: str, *, token: str | None = "user", **changes: Any
) -> Answer:
    """Report a checkpoint as the harness does."""
    body = {
        "uuid": checkpoint_uuid,
        "taskId": "task-1",
        "allocationId": "task-1.1",
        "state": "STATE_COMPLETED",
        "reportTime": None,
        "resources": {"model/": "0", "model/weights.bin": "70", "metadata.json": "30"},
        "metadata": {"steps_completed": 10, "framework": "none"},
        "training": {},
        "storageId": None,
        **changes,
    }
    return await master.call("POST", "/checkpoints", body, token=token)


async def get_checkpoint(master: MasterUnderTest, checkpoint_uuid: str, token: str = "user") -> Any:
    """Fetch one checkpoint."""
    answer = await master.call("GET", f"/checkpoints/{checkpoint_uuid}", token=token)
    assert answer.status == 200, answer.body
    assert missing_required(f"{API}.GetCheckpointResponse", answer.json) == []
    return answer.json["checkpoint"]


async def list_steps(master: MasterUnderTest, path: str) -> list[int]:
    """List checkpoints by the steps they hold."""
    answer = await master.call("GET", path, token="user")
    assert answer.status == 200, answer.body
    name = (
        "GetTrialCheckpointsResponse" if "/trials/" in path else "GetExperimentCheckpointsResponse"
    )
    assert missing_required(f"{API}.{name}", answer.json) == []
    return [one["metadata"]["steps_completed"] for one in answer.json["checkpoints"]]


async def fill_experiment(database: Database, **searcher: Any) -> tuple[int, int]:
    """Make an experiment with two trials and five checkpoints; return its and a trial's id."""
    config = {**CONFIG, "searcher": {"metric": "val.acc", **searcher}}
    experiment_id = await add_experiment(database, config=config)
    first, second = [await add_trial(database, experiment_id) for _ in range(2)]
    await add_checkpoint(database, first, steps=1, validation={"val": {"acc": 0.5}, "b": 1})
    await add_checkpoint(database, second, steps=2, validation={"val": {"acc": "NaN"}, "b": 9})
    await add_checkpoint(database, second, steps=3, validation={"val": {"acc": 0.75}, "b": 5})
    await add_checkpoint(database, first, steps=4, state="DELETED")
    await add_checkpoint(database, first, steps=5, state="PARTIALLY_DELETED")
    return experiment_id, first
