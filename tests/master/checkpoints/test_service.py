"""Checkpoints over the API: reported, listed, changed, and by whom."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from shipway_master.auth import Authenticator
from shipway_master.checkpoints.latest import find_latest
from shipway_master.store.database import Database
from tests.master.checkpointing import (
    API,
    fill_experiment,
    get_checkpoint,
    list_steps,
    report_checkpoint,
)
from tests.master.checkpoints_in_store import add_checkpoint, add_metrics
from tests.master.experiments_in_store import CONFIG, add_experiment, add_trial
from tests.master.running import ADMIN_ID, USER_ID, MasterUnderTest
from tests.proto.required import missing_required


@pytest.fixture
async def trial_id(database: Database) -> int:
    """Let a trial of the user run."""
    return await add_trial(database, await add_experiment(database), task_id="task-1", run=1)


async def test_a_report_is_kept_whole(
    master: MasterUnderTest, database: Database, trial_id: int
) -> None:
    one = str(uuid.uuid4())
    await add_metrics(database, trial_id, {"loss": 0.25, "odd": "NaN"}, steps=10)
    await add_metrics(database, trial_id, {"loss": 0.5}, steps=10, group="training")

    assert (await report_checkpoint(master, one)).json == {}

    checkpoint = await get_checkpoint(master, one)
    assert checkpoint["state"] == "STATE_COMPLETED"
    assert checkpoint["resources"] == {
        "model/": "0",
        "model/weights.bin": "70",
        "metadata.json": "30",
    }
    assert checkpoint["metadata"] == {"steps_completed": 10, "framework": "none"}
    assert (checkpoint["taskId"], checkpoint["allocationId"]) == ("task-1", "task-1.1")
    training = checkpoint["training"]
    assert training["trialId"] == trial_id
    assert training["hparams"] == {"lr": 0.5}
    assert training["validationMetrics"]["avgMetrics"] == {"loss": 0.25, "odd": "NaN"}
    assert training["trainingMetrics"]["avgMetrics"] == {"loss": 0.5}
    assert training["searcherMetric"] == 0.25
    assert await find_latest(database, trial_id) == (one, 10)


async def test_the_same_uuid_belongs_to_one_trial(
    master: MasterUnderTest, database: Database, trial_id: int
) -> None:
    one = str(uuid.uuid4())
    await add_trial(database, await add_experiment(database), task_id="task-2")
    await report_checkpoint(master, one)

    assert (await report_checkpoint(master, one, taskId="task-2")).status == 409


WRONG: list[tuple[dict[str, Any], int]] = [
    ({"metadata": {}}, 400),
    ({"metadata": {"steps_completed": "10"}}, 400),
    ({"metadata": {"steps_completed": True}}, 400),
    ({"metadata": {"steps_completed": 1.5}}, 400),
    ({"metadata": {"steps_completed": -1}}, 400),
    ({"state": "STATE_DELETED"}, 400),
    ({"resources": {"a": "-1"}}, 400),
    ({"resources": {"a": str(2**62), "b": str(2**62), "c": str(2**62)}}, 400),
    ({"taskId": "no-such-task"}, 400),
    ({"storageId": 77}, 400),
    ({"token": None}, 401),
]


NO_UUIDS = ["", "../../etc", "6d2f", "6D2F0000-0000-0000-0000-00000000000g"]


async def test_what_is_refused(master: MasterUnderTest, trial_id: int) -> None:
    for changes, status in WRONG:
        answer = await report_checkpoint(master, str(uuid.uuid4()), **changes)
        assert answer.status == status, changes
    for name in NO_UUIDS:
        assert (await report_checkpoint(master, name)).status == 400, name


async def test_a_trial_may_report_for_itself_alone(
    master: MasterUnderTest, database: Database, trial_id: int
) -> None:
    await add_trial(database, await add_experiment(database), task_id="task-2", run=1)
    authenticator = Authenticator(database)
    token = await authenticator.issue_allocation_token("task-2.1", owner_id=USER_ID)

    assert (await report_checkpoint(master, str(uuid.uuid4()), token=token)).status == 403
    assert (
        await report_checkpoint(master, str(uuid.uuid4()), token=token, taskId="task-2")
    ).status == 200
    path, body = "/runs/start", {"runId": trial_id, "checkpointStorage": None}
    assert (await master.call("POST", path, body, token=token)).status == 403


async def test_other_users_read_and_change_nothing(
    master: MasterUnderTest, database: Database
) -> None:
    experiment_id = await add_experiment(database, owner_id=ADMIN_ID)
    trial_id = await add_trial(database, experiment_id, task_id="task-1")
    one = await add_checkpoint(database, trial_id)

    assert (await get_checkpoint(master, one))["uuid"] == one
    assert (await report_checkpoint(master, str(uuid.uuid4()))).status == 403
    for verb, path, body in (
        ("PATCH", "/checkpoints", {"checkpoints": [{"uuid": one, "resources": {"resources": {}}}]}),
        ("POST", f"/checkpoints/{one}/metadata", {"checkpoint": {"uuid": one, "metadata": {}}}),
        ("DELETE", "/checkpoints", {"checkpointUuids": [one]}),
        ("POST", "/checkpoints/rm", {"checkpointUuids": [one], "checkpointGlobs": ["*"]}),
    ):
        assert (await master.call(verb, path, body, token="user")).status == 403, path


async def test_only_who_may_remove_a_checkpoint_gets_the_keys_of_its_storage(
    master: MasterUnderTest, database: Database
) -> None:
    experiment_id = await add_experiment(database, owner_id=ADMIN_ID)
    one = await add_checkpoint(database, await add_trial(database, experiment_id))

    its = (await get_checkpoint(master, one, "admin"))["training"]["experimentConfig"][
        "checkpoint_storage"
    ]
    others = (await get_checkpoint(master, one, "user"))["training"]["experimentConfig"][
        "checkpoint_storage"
    ]

    assert its == CONFIG["checkpoint_storage"]
    assert others == {"type": "s3", "bucket": "b"}


async def test_what_is_no_storage(master: MasterUnderTest, trial_id: int) -> None:
    for run_id, storage, status in (
        (9999, None, 404),
        (trial_id, {"type": "tape"}, 400),
        (trial_id, {}, 400),
    ):
        body = {"runId": run_id, "checkpointStorage": storage}
        assert (await master.call("POST", "/runs/start", body)).status == status, body


async def test_a_trial_lists_its_own(master: MasterUnderTest, database: Database) -> None:
    _, trial_id = await fill_experiment(database)
    path = f"/trials/{trial_id}/checkpoints"

    assert await list_steps(master, path) == [1, 4, 5]
    by_metric = f"{path}?sortByAttr=SORT_BY_SEARCHER_METRIC"
    assert await list_steps(master, by_metric) == [1, 4, 5]
    assert (await master.call("GET", f"{path}?offset=7")).status == 400
    assert (await master.call("GET", "/trials/999/checkpoints")).status == 404
    assert (await master.call("GET", "/experiments/999/checkpoints")).status == 404


async def test_what_was_measured_before_a_trial_went_back_does_not_count(
    master: MasterUnderTest, database: Database, trial_id: int
) -> None:
    await add_metrics(database, trial_id, {"loss": 1}, steps=10, run=1, archived=True)
    await add_metrics(database, trial_id, {"loss": 2}, steps=10, run=2)
    one = await add_checkpoint(database, trial_id)

    assert (await get_checkpoint(master, one))["training"]["searcherMetric"] == 2


async def test_the_newest_is_the_one_that_was_reported_last(
    master: MasterUnderTest, database: Database, trial_id: int
) -> None:
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    await report_checkpoint(master, first, reportTime="2040-01-01T00:00:00Z")
    await report_checkpoint(
        master, second, reportTime="2020-01-01T00:00:00Z", metadata={"steps_completed": 20}
    )

    assert await find_latest(database, trial_id) == (second, 20)
    assert (await get_checkpoint(master, second))["reportTime"] == "2020-01-01T00:00:00Z"


async def test_the_users_own_data(
    master: MasterUnderTest, database: Database, trial_id: int
) -> None:
    one = await add_checkpoint(database, trial_id)
    body = {"checkpoint": {"uuid": one, "metadata": {"note": "good"}, "resources": {}}}

    answer = await master.call("POST", f"/checkpoints/{one}/metadata", body, token="user")

    assert missing_required(f"{API}.PostCheckpointMetadataResponse", answer.json) == []
    assert answer.json["checkpoint"]["metadata"] == {"note": "good", "steps_completed": 10}
    assert (await get_checkpoint(master, one))["resources"] != {}


async def test_a_pattern_does_not_lead_out_of_the_checkpoint(
    master: MasterUnderTest, database: Database, trial_id: int
) -> None:
    one = await add_checkpoint(database, trial_id)

    for glob in ("", "/etc/*", "../*", "a/../../b"):
        body = {"checkpointUuids": [one], "checkpointGlobs": [glob]}
        assert (await master.call("POST", "/checkpoints/rm", body)).status == 400, glob


async def test_what_is_not_there(master: MasterUnderTest) -> None:
    unknown = str(uuid.uuid4())
    named = {"checkpointUuids": [unknown]}
    for verb, path, body in (
        ("GET", f"/checkpoints/{unknown}", None),
        ("POST", f"/checkpoints/{unknown}/metadata", {"checkpoint": {"metadata": {}}}),
        ("DELETE", "/checkpoints", named),
        ("POST", "/checkpoints/rm", {**named, "checkpointGlobs": []}),
    ):
        answer = await master.call(verb, path, body)
        assert answer.status == 404, path
        assert answer.error["error"] == f"checkpoint '{unknown}' not found"
