"""Experiments and runs are found by filters and sorted, on both databases."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shipway_master.queries.paging import load_page
from shipway_master.queries.search import search_experiments, search_runs
from shipway_master.store.database import Database, opened
from shipway_master.store.experiments import TrialRow
from tests.master.conftest import PreparedPostgres
from tests.master.experiments_in_store import CONFIG, STARTED, add_experiment, add_trial
from tests.master.queries.test_filters import make_field, make_filter
from tests.master.running import ADMIN_ID, Prepared, make_config
from tests.master.tasks_in_store import add_run

pytestmark = pytest.mark.asyncio(loop_scope="module")

HP, RUN_HP = "LOCATION_TYPE_HYPERPARAMETERS", "LOCATION_TYPE_RUN_HYPERPARAMETERS"
METADATA, RUN = "LOCATION_TYPE_RUN_METADATA", "LOCATION_TYPE_RUN"
NUMBER, TEXT, ARRAY = "COLUMN_TYPE_NUMBER", "COLUMN_TYPE_TEXT", "COLUMN_TYPE_ARRAY"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def searched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Fill a database; returns its URL."""
    if request.param == "sqlite":
        prepared: Prepared = request.getfixturevalue("prepared")
        folder: Path = tmp_path_factory.mktemp("searched") / "data"
        shutil.copytree(prepared.folder, folder)
        url = make_config(folder).db.resolve_url(folder).render_as_string(hide_password=False)
    else:
        postgres: PreparedPostgres = request.getfixturevalue("postgres")
        url = postgres.server.make_database(like=postgres.url)
    asyncio.run(_fill(url))
    return url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database(searched: str) -> AsyncGenerator[Database]:
    """Open the filled database, once for all tests here: they only read."""
    async with opened(searched) as database:
        yield database


async def _fill(url: str) -> None:
    """Write down four experiments (1 to 4) and five trials (1 to 5)."""
    fixed = {"lr": {"type": "const", "val": 0.25}, "net": {"type": "const", "val": "ResNet"}}
    deep = {
        "opt": {"é": {"type": "int", "minval": 1, "maxval": 9}},
        "lr": CONFIG["hyperparameters"]["lr"],
    }
    async with opened(url) as database:
        await add_experiment(
            database,
            name="first",
            description="50%_of it",
            labels=["vision", "Old one"],
            config={**CONFIG, "hyperparameters": fixed, "searcher": {"name": "single"}},
            state="COMPLETED",
            ended_at=STARTED + timedelta(seconds=60),
            progress=1.0,
            best_trial_id=1,
        )
        await add_experiment(
            database,
            name="second",
            labels=[],
            config={**CONFIG, "hyperparameters": deep},
            started_at=STARTED + timedelta(days=1),
            progress=0.5,
            best_trial_id=3,
            external_id="theirs",
        )
        await add_experiment(
            database, name="third", labels=["vision"], owner_id=ADMIN_ID, state="PAUSED"
        )
        await add_experiment(database, name="fourth", archived=True, state="CANCELED")
        await add_trial(
            database,
            1,
            state="COMPLETED",
            ended_at=STARTED + timedelta(seconds=60),
            hparams={"lr": 0.25, "net": "ResNet", "drop": True},
            searcher_metric=0.5,
            checkpoint_bytes=100,
            summary_metrics=_summary(loss=0.5),
            run_metadata={"who": {"name": "Ann"}, "tags": ["a", "b"], "when": "2026-01-02"},
        )
        await add_run(database, "t2.1", slots=1, began_at=STARTED)
        await add_trial(
            database,
            2,
            task_id="t2",
            hparams={"lr": 0.5, "opt": {"é": 3}},
            checkpoint_bytes=10,
            run_metadata={"who": {"name": "Bob"}, "score": 7},
        )
        await add_trial(
            database,
            2,
            hparams={"lr": 2, "opt": {"é": 8}},
            searcher_metric=0.25,
            checkpoint_bytes=1,
            summary_metrics=_summary(loss=0.25),
        )
        await add_trial(database, 2, hparams={"lr": "auto"}, archived=True, state="ERROR")
        await add_trial(database, 4, state="CANCELED", hparams={"lr": None, "x": "\0"})


def _summary(*, loss: float) -> dict[str, Any]:
    numbers = {"last": loss, "min": loss, "max": 9.0, "mean": 1.0, "count": 2, "type": "number"}
    return {"validation_metrics": {"loss": numbers}, "my": {"a.b": {"last": "x", "type": "string"}}}


def metric(column: str, operator: str, value: Any, **more: Any) -> dict[str, Any]:
    """Build a condition on a metric."""
    location = "LOCATION_TYPE_VALIDATIONS"
    known = {"location": location, "type": NUMBER, "columnName": column, "operator": operator}
    return {**known, "value": value, **more}


EXPERIMENT_CASES: list[tuple[dict[str, Any], list[int]]] = [
    ({"columnName": "id", "operator": ">=", "value": 2}, [2, 3]),
    ({"columnName": "id", "operator": "!=", "value": "2"}, [1, 3]),
    ({"columnName": "name", "operator": "contains", "value": "IR"}, [1, 3]),
    ({"columnName": "name", "operator": "notContains", "value": "ir"}, [2]),
    ({"columnName": "name", "operator": "=", "value": "second"}, [2]),
    ({"columnName": "description", "operator": "contains", "value": "%_"}, [1]),
    ({"columnName": "description", "operator": "isEmpty"}, [2, 3]),
    ({"columnName": "description", "operator": "notEmpty"}, [1]),
    ({"columnName": "tags", "operator": "=", "value": "vision"}, [1, 3]),
    ({"columnName": "tags", "operator": "!=", "value": "vision"}, [2]),
    ({"columnName": "tags", "operator": "contains", "value": "old"}, [1]),
    ({"columnName": "tags", "operator": "isEmpty"}, [2]),
    ({"columnName": "searcherType", "operator": "=", "value": "random"}, [2, 3]),
    ({"columnName": "startTime", "operator": ">", "value": "2026-03-01T23:00:00.000Z"}, [2]),
    ({"columnName": "startTime", "operator": "<=", "value": "2026-03-01T14:00:00+02:00"}, [1, 3]),
    ({"columnName": "endTime", "operator": "isEmpty"}, [2, 3]),
    ({"columnName": "duration", "operator": "<", "value": 61}, [1]),
    ({"columnName": "numTrials", "operator": "=", "value": 3}, [2]),
    ({"columnName": "progress", "operator": ">=", "value": 50}, [1, 2]),
    ({"columnName": "checkpointSize", "operator": ">", "value": 10}, [1, 2]),
    ({"columnName": "checkpointCount", "operator": "=", "value": 0}, [1, 2, 3]),
    ({"columnName": "state", "operator": "=", "value": "ACTIVE"}, [2]),
    ({"columnName": "state", "operator": "=", "value": "STATE_RUNNING"}, [2]),
    ({"columnName": "state", "operator": "=", "value": "QUEUED"}, []),
    ({"columnName": "state", "operator": "!=", "value": "RUNNING"}, [1, 3]),
    ({"columnName": "user", "operator": "=", "value": "1"}, [3]),
    ({"columnName": "user", "operator": "!=", "value": "admin"}, [1, 2]),
    ({"columnName": "searcherMetricsVal", "operator": "<", "value": 0.4}, [2]),
    ({"columnName": "externalExperimentId", "operator": "notEmpty"}, [2]),
    (metric("validation.loss.min", "<", 0.3), [2]),
    (metric("validation.loss.min", "isEmpty", None), [3]),
    (metric("my.a.b.last", "=", "x", type=TEXT, location="LOCATION_TYPE_CUSTOM_METRIC"), [1, 2]),
    ({"location": HP, "type": NUMBER, "columnName": "hp.lr", "operator": "<", "value": 0.3}, [1]),
    ({"location": HP, "type": NUMBER, "columnName": "hp.lr", "operator": ">", "value": 1}, [2]),
    ({"location": HP, "type": NUMBER, "columnName": "hp.opt.é", "operator": "=", "value": 8}, [2]),
    ({"location": HP, "columnName": "hp.net", "operator": "contains", "value": "resn"}, [1]),
    ({"location": HP, "columnName": "hp.net", "operator": "isEmpty"}, [2, 3]),
]
RUN_CASES: list[tuple[dict[str, Any], list[int]]] = [
    ({"columnName": "id", "operator": "<", "value": 3}, [1, 2]),
    ({"columnName": "experimentName", "operator": "=", "value": "second"}, [2, 3]),
    ({"columnName": "state", "operator": "=", "value": "RUNNING"}, [2]),
    ({"columnName": "state", "operator": "=", "value": "QUEUED"}, [3]),
    ({"columnName": "isExpMultitrial", "operator": "=", "value": "true"}, [2, 3]),
    ({"columnName": "isExpMultitrial", "operator": "!=", "value": True}, [1]),
    ({"columnName": "parentArchived", "operator": "=", "value": "false"}, [1, 2, 3]),
    ({"columnName": "localId", "operator": "contains", "value": "-3"}, [3]),
    ({"columnName": "checkpointSize", "operator": ">=", "value": 10}, [1, 2]),
    ({"location": RUN_HP, "columnName": "hp.lr", "type": NUMBER, "value": 0.5}, [2]),
    (
        {"location": HP, "columnName": "hp.lr", "type": NUMBER, "operator": ">", "value": 0.3},
        [2, 3],
    ),
    ({"location": RUN_HP, "columnName": "hp.drop", "type": TEXT, "value": "true"}, [1]),
    ({"location": RUN_HP, "columnName": "hp.opt.é", "operator": "notEmpty"}, [2, 3]),
    (metric("validation.loss.last", ">", 0.3), [1]),
    ({"location": METADATA, "columnName": "metadata.who.name", "type": TEXT, "value": "Bob"}, [2]),
    ({"location": METADATA, "columnName": "metadata.score", "type": NUMBER, "value": 7}, [2]),
    ({"location": METADATA, "columnName": "metadata.tags", "type": ARRAY, "value": "b"}, [1]),
    (
        {
            "location": METADATA,
            "columnName": "metadata.when",
            "type": "COLUMN_TYPE_DATE",
            "operator": ">",
            "value": "2026-01-01T00:00:00.000Z",
        },
        [1],
    ),
]


@pytest.mark.parametrize(("field", "ids"), EXPERIMENT_CASES, ids=range(len(EXPERIMENT_CASES)))
async def test_experiments_are_found(
    database: Database, field: dict[str, Any], ids: list[int]
) -> None:
    text = make_filter(make_field(**field))

    assert await _find_experiments(database, text) == ids


@pytest.mark.parametrize(("field", "ids"), RUN_CASES, ids=range(len(RUN_CASES)))
async def test_runs_are_found(database: Database, field: dict[str, Any], ids: list[int]) -> None:
    text = make_filter(make_field(**{"location": RUN, **field}))

    assert await _find_runs(database, text) == ids


async def test_groups_join_their_conditions(database: Database) -> None:
    first, second = make_field(value=1), make_field(value=2)
    paused = make_field(columnName="state", value="PAUSED")
    either = {"kind": "group", "conjunction": "or", "children": [first, second]}

    assert await _find_experiments(database, make_filter(first, second)) == []
    assert await _find_experiments(database, make_filter(either, conjunction="and")) == [1, 2]
    assert await _find_experiments(database, make_filter(either, paused, conjunction="or")) == [
        1,
        2,
        3,
    ]


async def test_what_is_archived_is_found_when_asked_for(database: Database) -> None:
    everything = make_filter(showArchived=True)

    assert await _find_experiments(database, everything) == [1, 2, 3, 4]
    assert await _find_experiments(database, "") == [1, 2, 3, 4]
    assert await _find_runs(database, everything) == [1, 2, 3, 4, 5]
    assert await _find_runs(database, make_filter()) == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("id=desc", [4, 3, 2, 1]),
        ("startTime=desc", [2, 1, 3, 4]),
        ("searcherMetricsVal=asc", [2, 1, 3, 4]),
        ("searcherMetricsVal=desc", [1, 2, 3, 4]),
        ("user=asc,id=desc", [3, 4, 2, 1]),
        ("numTrials=desc,name=asc", [2, 1, 4, 3]),
        ("validation.loss.min=asc", [2, 1, 3, 4]),
        ("hp.lr=desc", [2, 1, 3, 4]),
        ("searcherType=desc,id=asc", [1, 2, 3, 4]),
        ("resourcePool=asc,progress=desc,duration=asc,id=desc", [1, 2, 4, 3]),
    ],
)
async def test_experiments_are_sorted(database: Database, text: str, ids: list[int]) -> None:
    assert await _find_experiments(database, "", sort=text) == ids


async def test_what_has_no_labels_comes_last(database: Database) -> None:
    ids = await _find_experiments(database, "", sort="tags=desc,id=desc")

    assert ids[2:] == [4, 2]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("hp.lr=asc", [1, 2, 3, 4, 5]),
        ("hp.lr=desc", [3, 2, 1, 4, 5]),
        ("metadata.who.name=desc", [2, 1, 3, 4, 5]),
        ("validation.loss.mean=asc,checkpointSize=asc", [3, 1, 4, 5, 2]),
        ("experimentId=desc,localId=asc", [5, 2, 3, 4, 1]),
        ("isExpMultitrial=asc,id=desc", [1, 5, 4, 3, 2]),
    ],
)
async def test_runs_are_sorted(database: Database, text: str, ids: list[int]) -> None:
    assert await _find_runs(database, "", sort=text) == ids


async def _find_experiments(database: Database, text: str, *, sort: str = "") -> list[int]:
    found = search_experiments(project_id=1, filter_text=text, sort_text=sort)
    async with database.reading() as session:
        rows, pagination = await load_page(session, found, offset=0, limit=0)
    assert pagination.total == len(rows)
    return [row[0].id for row in rows]


async def _find_runs(database: Database, text: str, *, sort: str = "") -> list[int]:
    found = search_runs(TrialRow.id, project_id=1, filter_text=text, sort_text=sort)
    async with database.reading() as session:
        rows, pagination = await load_page(session, found, offset=0, limit=0)
    assert pagination.total == len(rows)
    return [row[0] for row in rows]
