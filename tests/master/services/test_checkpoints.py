"""Checkpoints over the API, as far as the database matters."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from shipway_master.checkpoints.latest import find_latest
from shipway_master.store.database import Database, opened
from tests.master.checkpointing import (
    fill_experiment,
    get_checkpoint,
    list_steps,
    report_checkpoint,
)
from tests.master.experiments_in_store import add_experiment, add_trial
from tests.master.reporting import load_trial
from tests.master.running import ADMIN_ID, Answer, MasterUnderTest


@pytest.fixture
async def database(master: MasterUnderTest) -> AsyncGenerator[Database]:
    """Open the database beside the master."""
    async with opened(master.database_url) as database:
        yield database


@pytest.fixture
async def trial_id(database: Database) -> int:
    """Let a trial of the user run."""
    return await add_trial(database, await add_experiment(database), task_id="task-1", run=1)


async def test_a_resent_report_changes_nothing_twice(
    master: MasterUnderTest, database: Database, trial_id: int
) -> None:
    one = str(uuid.uuid4())
    await report_checkpoint(master, one)

    again = await report_checkpoint(master, one, metadata={"steps_completed": 11})

    assert again.status == 200
    assert (await get_checkpoint(master, one))["metadata"] == {"steps_completed": 11}
    trial = await load_trial(database, trial_id)
    assert (trial.checkpoint_count, trial.checkpoint_bytes) == (1, 100)


async def test_a_storage_is_stored_once_for_each_owner(
    master: MasterUnderTest, database: Database, trial_id: int
) -> None:
    other = await add_trial(database, await add_experiment(database, owner_id=ADMIN_ID))
    storage = {"type": "shared_fs", "host_path": "/data", "save_trial_best": 3}

    async def prepare(run_id: int, storage: Any) -> Any:
        body = {"runId": run_id, "checkpointStorage": storage}
        return (await master.call("POST", "/runs/start", body)).json

    first = await prepare(trial_id, storage)
    again = await prepare(trial_id, {**storage, "save_trial_best": 4})
    moved = await prepare(trial_id, {**storage, "host_path": "/elsewhere"})
    foreign = await prepare(other, storage)
    none = await prepare(trial_id, None)

    assert first == again
    assert len({first["storageId"], moved["storageId"], foreign["storageId"]}) == 3
    assert none == {}
    one = str(uuid.uuid4())
    assert (await report_checkpoint(master, one, storageId=foreign["storageId"])).status == 400
    assert (await report_checkpoint(master, one, storageId=moved["storageId"])).status == 200
    shown = (await get_checkpoint(master, one))["training"]["experimentConfig"][
        "checkpoint_storage"
    ]
    assert shown == {"type": "shared_fs", "host_path": "/elsewhere"}


LISTS = [
    ("", [1, 2, 3, 4, 5]),
    ("sortByAttr=SORT_BY_BATCH_NUMBER&orderBy=ORDER_BY_DESC", [5, 4, 3, 2, 1]),
    ("sortByAttr=SORT_BY_TRIAL_ID", [1, 4, 5, 2, 3]),
    ("sortByAttr=SORT_BY_STATE", [1, 2, 3, 4, 5]),
    ("sortByAttr=SORT_BY_STATE&orderBy=ORDER_BY_DESC", [5, 4, 3, 2, 1]),
    ("sortByAttr=SORT_BY_SEARCHER_METRIC", [3, 1, 2, 4, 5]),
    ("sortByAttr=SORT_BY_SEARCHER_METRIC&orderBy=ORDER_BY_ASC", [1, 3, 2, 4, 5]),
    ("sortByMetric=b", [2, 3, 1, 4, 5]),
    ("sortByMetric=b&orderBy=ORDER_BY_ASC&limit=2", [1, 3]),
    ("states=STATE_COMPLETED&states=STATE_DELETED", [1, 2, 3, 4]),
    ("offset=-2", [4, 5]),
    ("offset=1&limit=2", [2, 3]),
]


async def test_lists(master: MasterUnderTest, database: Database) -> None:
    experiment_id, _ = await fill_experiment(database, smaller_is_better=False)
    path = f"/experiments/{experiment_id}/checkpoints"

    found = [(query, await list_steps(master, f"{path}?{query}")) for query, _ in LISTS]

    assert found == LISTS


async def test_the_files_that_are_left(
    master: MasterUnderTest, database: Database, trial_id: int
) -> None:
    first, second, third = [str(uuid.uuid4()) for _ in range(3)]
    for one in (first, second, third):
        await report_checkpoint(master, one)

    async def patch(**left: Any) -> Answer:
        body = {
            "checkpoints": [
                {"uuid": one, "resources": None if files is None else {"resources": files}}
                for one, files in left.items()
            ]
        }
        return await master.call("PATCH", "/checkpoints", body, token="user")

    some = {"metadata.json": "30"}
    assert (await patch(**{first: {}, second: some, third: None})).json == {}

    states = [(await get_checkpoint(master, one))["state"] for one in (first, second, third)]
    assert states == ["STATE_DELETED", "STATE_PARTIALLY_DELETED", "STATE_COMPLETED"]
    assert (await get_checkpoint(master, second))["resources"] == some
    trial = await load_trial(database, trial_id)
    assert (trial.checkpoint_count, trial.checkpoint_bytes) == (2, 130)
    assert await find_latest(database, trial_id) == (third, 10)
    unknown = str(uuid.uuid4())
    assert (await patch(**{third: {}, unknown: {}})).status == 404
    assert (await get_checkpoint(master, third))["state"] == "STATE_COMPLETED"
