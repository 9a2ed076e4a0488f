"""What tables of a project can show, on both databases."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from shipway_master.store.database import Database, opened
from tests.master.experiments_in_store import CONFIG, add_experiment, add_trial
from tests.master.running import MasterUnderTest
from tests.proto.required import missing_required


@pytest.fixture
async def database(master: MasterUnderTest) -> AsyncGenerator[Database]:
    """Open the master's database beside it, with two experiments of one trial each."""
    async with opened(master.database_url) as database:
        for experiment_id in (1, 2):
            await add_experiment(database)
            await add_trial(database, experiment_id)
        yield database


async def test_metadata_of_runs_are_kept_and_found(
    master: MasterUnderTest, database: Database
) -> None:
    metadata = {"who": {"name": "Ann"}, "tags": ["a", "b"], "n": 1, "at": "2026-01-02T03:04:05Z"}

    posted = await master.call("POST", "/runs/1/metadata", {"metadata": metadata}, token="user")
    read = await master.call("GET", "/runs/1/metadata")
    names = await master.call("GET", "/projects/1/metadata/who.name")
    tags = await master.call("GET", "/projects/1/metadata/tags")

    assert posted.json == {"metadata": metadata}
    assert read.json == posted.json
    assert (await master.call("GET", "/runs/2/metadata")).json == {"metadata": {}}
    assert names.json == {"values": ["Ann"]}
    assert tags.json == {"values": ["a", "b"]}
    assert (await master.call("GET", "/runs/9/metadata")).status == 404
    wrong = await master.call("POST", "/runs/1/metadata", {"metadata": {"a.b": 1}})
    assert (wrong.status, wrong.error["error"][:9]) == (400, "metadata:")


async def test_columns_of_a_project(master: MasterUnderTest, database: Database) -> None:
    numbers = {"last": 1, "type": "number"}
    summary = {"validation_metrics": {"loss": numbers}, "my": {"t": {"type": "string"}}}
    nested = {"opt": {"lr": CONFIG["hyperparameters"]["lr"]}, "net": {"type": "const", "val": "x"}}
    await add_experiment(
        database, config={**CONFIG, "hyperparameters": nested}, best_trial_id=3, name="sixth"
    )
    await add_trial(
        database,
        3,
        hparams={"opt": {"lr": 0.5}, "net": "x", "on": True},
        summary_metrics=summary,
        run_metadata={"who": {"name": "Ann"}, "tags": ["a"]},
    )

    for query, expected in (
        (
            "",
            {
                "numTrials": ("EXPERIMENT", "NUMBER"),
                "validation.loss.min": ("VALIDATIONS", "NUMBER"),
                "my.t.last": ("CUSTOM_METRIC", "TEXT"),
                "hp.opt.lr": ("HYPERPARAMETERS", "NUMBER"),
                "hp.net": ("HYPERPARAMETERS", "TEXT"),
                "hp.lr": ("HYPERPARAMETERS", "NUMBER"),
            },
        ),
        (
            "?tableType=TABLE_TYPE_RUN",
            {
                "experimentName": ("RUN", "TEXT"),
                "startTime": ("RUN", "DATE"),
                "hp.opt.lr": ("RUN_HYPERPARAMETERS", "NUMBER"),
                "hp.on": ("RUN_HYPERPARAMETERS", "TEXT"),
                "metadata.who.name": ("RUN_METADATA", "TEXT"),
                "metadata.tags": ("RUN_METADATA", "ARRAY"),
            },
        ),
    ):
        answer = await master.call("GET", f"/projects/1/columns{query}")
        columns = {
            one["column"]: (
                one["location"].removeprefix("LOCATION_TYPE_"),
                one["type"].removeprefix("COLUMN_TYPE_"),
            )
            for one in answer.json["columns"]
        }
        assert expected.items() <= columns.items()
        assert missing_required("determined.api.v1.GetProjectColumnsResponse", answer.json) == []
    assert (await master.call("GET", "/projects/77/columns")).status == 404
