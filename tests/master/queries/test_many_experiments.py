"""Many experiments and runs at once, each with a result of its own; and what is noted of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from shipway_master.store.database import Database, opened
from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.store.workspaces import ProjectRow
from tests.master.asking import eventually
from tests.master.experiments_in_store import STARTED, add_experiment, add_trial
from tests.master.queries.test_filters import make_field, make_filter
from tests.master.running import ADMIN_ID, MasterUnderTest
from tests.proto.required import missing_required


@pytest.fixture
async def database(master: MasterUnderTest) -> AsyncGenerator[Database]:
    """Open the master's database beside it, with five experiments.

    1 and 2 have ended, 3 is paused, 4 is somebody else's; 5 lies in another project, and had two
    trials, while 1 and 2 had one each.
    """
    other = 2
    project = ProjectRow(
        id=other, workspace_id=1, name="other", folded_name="other", key="OTH", notes=[], user_id=1
    )
    ended: dict[str, Any] = {"state": "COMPLETED", "ended_at": STARTED + timedelta(hours=1)}
    async with opened(master.database_url) as database:
        async with database.writing() as session:
            session.add(project)
        await add_experiment(database, labels=["x"], **ended)
        await add_experiment(database, **ended)
        await add_experiment(database, state="PAUSED", unmanaged=True)
        await add_experiment(database, owner_id=ADMIN_ID, **ended)
        await add_experiment(database, project_id=other, **ended)
        for experiment_id in (1, 2, 5, 5):
            place = {"project_id": other if experiment_id == 5 else 1}
            await add_trial(database, experiment_id, **place, **ended)
        yield database


async def _post(
    master: MasterUnderTest, path: str, body: dict[str, Any], *, verb: str = "POST"
) -> dict[int, str]:
    answer = await master.call(verb, path, body, token="user")
    assert answer.status == 200, answer.body
    assert set(answer.json) == {"results"}
    return {one["id"]: one["error"] for one in answer.json["results"]}


async def test_each_experiment_has_its_own_result(
    master: MasterUnderTest, database: Database
) -> None:
    body = {"experimentIds": [1, 3, 4, 77, 1]}

    assert await _post(master, "/projects/1/experiments/archive", body) == {
        1: "",
        3: "experiment 3 has not ended: only what has ended can be archived",
        4: "user does not have permission",
        77: "experiment '77' not found",
    }
    assert await _post(master, "/projects/1/experiments/unarchive", {"experimentIds": [1, 2]}) == {
        1: "",
        2: "",
    }


async def test_experiments_are_named_by_filters(
    master: MasterUnderTest, database: Database
) -> None:
    filters: dict[str, Any] = {"labels": ["x"]}
    assert await _post(master, "/projects/1/experiments/archive", {"filters": filters}) == {1: ""}

    filters = {"archived": False, "states": ["STATE_COMPLETED"], "excludedExperimentIds": [4]}
    body = {"filters": filters}
    assert await _post(master, "/projects/1/experiments/archive", body) == {2: ""}
    assert (
        await _post(master, "/projects/1/experiments/archive", {"filters": {"userIds": [77]}}) == {}
    )


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("activate", "experiment 1 has ended already"),
        ("pause", "experiment 1 has ended already"),
        ("cancel", ""),
        ("kill", ""),
    ],
)
async def test_what_has_ended_is_not_started_again(
    master: MasterUnderTest, database: Database, path: str, text: str
) -> None:
    assert await _post(master, f"/projects/0/experiments/{path}", {"experimentIds": [1]}) == {
        1: text
    }


async def test_experiments_are_moved_with_their_trials(
    master: MasterUnderTest, database: Database
) -> None:
    body = {"experimentIds": [1, 5], "destinationProjectId": 2}

    assert await _post(master, "/projects/1/experiments/move", body) == {
        1: "",
        5: "experiment '5' not found",
    }
    async with database.reading() as session:
        projects = (await session.scalars(select(TrialRow.project_id).order_by(TrialRow.id))).all()
    assert projects == [2, 1, 2, 2]
    nowhere = {"experimentIds": [1], "destinationProjectId": 77}
    assert (await master.call("POST", "/projects/1/experiments/move", nowhere)).status == 404


async def test_one_experiment_is_moved_archived_and_deleted(
    master: MasterUnderTest, database: Database
) -> None:
    move = {"destinationProjectId": 2}

    assert (await master.call("POST", "/experiments/1/archive")).json == {}
    assert (await master.call("POST", "/experiments/1/move", move)).status == 400
    assert (await master.call("POST", "/experiments/1/unarchive")).json == {}
    assert (await master.call("POST", "/experiments/1/move", move)).json == {}
    assert (await master.call("POST", "/experiments/3/archive")).status == 400
    assert (await master.call("POST", "/experiments/4/archive", token="user")).status == 403
    assert (await master.call("POST", "/experiments/77/archive")).status == 404


async def test_labels_come_and_go(master: MasterUnderTest, database: Database) -> None:
    labels = "/experiments/1/labels"

    assert (await master.call("PUT", f"{labels}/y%20é")).json == {"labels": ["x", "y é"]}
    assert (await master.call("PUT", f"{labels}/x")).json == {"labels": ["x", "y é"]}
    assert (await master.call("DELETE", f"{labels}/x")).json == {"labels": ["y é"]}
    assert (await master.call("DELETE", f"{labels}/none")).json == {"labels": ["y é"]}
    assert (await master.call("PUT", f"{labels}/%20")).status == 400
    assert (await master.call("PUT", "/experiments/4/labels/z", token="user")).status == 403


async def test_the_logs_of_many_experiments_are_kept_longer(
    master: MasterUnderTest, database: Database
) -> None:
    body = {"experimentIds": [1, 2], "numDays": -1}

    assert await _post(master, "/projects/1/experiments/retain_logs", body, verb="PUT") == {
        1: "",
        2: "",
    }
    async with database.reading() as session:
        days = (await session.scalars(select(ExperimentRow.log_retention_days))).all()
    assert sorted(days, key=str) == [-1, -1, None, None, None]
    body["numDays"] = 40_000
    assert (await master.call("PUT", "/projects/1/experiments/retain_logs", body)).status == 400


async def test_runs_are_put_aside_and_moved(master: MasterUnderTest, database: Database) -> None:
    search = "run 3 belongs to a search with several trials"

    assert await _post(master, "/runs/archive", {"runIds": [1, 3, 9], "projectId": 1}) == {
        1: "",
        3: "run '3' not found",
        9: "run '9' not found",
    }
    archived = make_filter(make_field(columnName="id", location="LOCATION_TYPE_RUN"))
    assert await _post(master, "/runs/archive", {"projectId": 1, "filter": archived}) == {}
    assert await _post(master, "/runs/unarchive", {"runIds": [1]}) == {1: ""}
    assert await _post(master, "/runs/kill", {"runIds": [1], "projectId": 1}) == {1: ""}
    assert await _post(master, "/runs/pause", {"runIds": [1]}) == {
        1: "experiment 1 has ended already"
    }
    assert (await _post(master, "/runs/resume", {"runIds": [3]}))[3].startswith(search)
    back = {"sourceProjectId": 2, "destinationProjectId": 1, "runIds": [3, 4]}
    assert (await _post(master, "/runs/move", back))[3].startswith(search)
    assert await _post(master, "/runs/move", {**back, "skipMultitrial": True}) == {}
    there = {"sourceProjectId": 1, "destinationProjectId": 2, "runIds": [1]}
    assert await _post(master, "/runs/move", there) == {1: ""}
    both = {"runIds": [1], "filter": archived}
    assert (await master.call("POST", "/runs/kill", both)).status == 400


async def test_a_deleted_run_takes_its_experiment_with_it(
    master: MasterUnderTest, database: Database
) -> None:
    assert await _post(master, "/runs/delete", {"runIds": [1]}) == {1: ""}
    state = (await master.call("GET", "/experiments/1")).json.get("experiment", {}).get("state")
    assert state in ("STATE_DELETING", None)


async def test_a_run_among_others_is_deleted_alone(
    master: MasterUnderTest, database: Database
) -> None:
    async with database.writing() as session:
        for trial_id, loss in ((3, 0.25), (4, 0.5)):
            (await session.get_one(TrialRow, trial_id)).searcher_metric = loss
        (await session.get_one(ExperimentRow, 5)).best_trial_id = 3

    assert await _post(master, "/runs/delete", {"runIds": [3]}) == {3: ""}

    async def is_gone() -> bool:
        return (await master.call("GET", "/trials/3")).status == 404

    await eventually(is_gone)
    left = (await master.call("GET", "/experiments/5")).json["experiment"]
    assert (left["trialIds"], left["bestTrialId"]) == ([4], 4)


async def test_searches_answer_over_rest(master: MasterUnderTest, database: Database) -> None:
    async with database.writing() as session:
        (await session.get_one(ExperimentRow, 1)).best_trial_id = 1
    text = make_filter(make_field())
    body = {"projectId": 1, "filter": text, "sort": "id=desc"}

    found = await master.call("POST", "/experiments-search", body, token="user")
    runs = await master.call("POST", "/runs", body, token="user")

    [experiment] = found.json["experiments"]
    assert experiment["bestTrial"]["id"] == 1
    assert missing_required("determined.api.v1.SearchExperimentsResponse", found.json) == []
    assert [one["id"] for one in runs.json["runs"]] == [1]
    assert missing_required("determined.api.v1.SearchRunsResponse", runs.json) == []
    for path in ("/experiments-search", "/runs"):
        wrong = await master.call("POST", path, {"filter": "{"})
        assert (wrong.status, wrong.error["error"][:16]) == (400, "filter: not JSON")
        assert (await master.call("POST", path, {"projectId": 77})).status == 404
