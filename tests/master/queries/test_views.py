"""Experiments and trials as they are shown."""

from __future__ import annotations

from datetime import timedelta

import pytest
from google.protobuf.json_format import MessageToDict

from shipway_master.auth import Principal
from shipway_master.queries.loading import load_experiment, load_trial
from shipway_master.store.database import Database
from shipway_proto.determined.experiment.v1 import experiment_pb2
from shipway_proto.determined.trial.v1 import trial_pb2
from tests.master.experiments_in_store import CONFIG, STARTED, add_experiment, add_trial
from tests.master.tasks_in_store import add_run


async def test_an_experiment_is_shown_with_its_trials_and_places(
    database: Database, owner: Principal
) -> None:
    experiment_id = await add_experiment(
        database,
        state="COMPLETED",
        labels=["b", "a"],
        ended_at=STARTED + timedelta(seconds=90),
        parent_id=77,
        progress=0.5,
        best_trial_id=1,
    )
    for metric in (0.25, 0.5):
        await add_trial(
            database,
            experiment_id,
            searcher_metric=metric,
            checkpoint_count=2,
            checkpoint_bytes=1 << 40,
        )

    async with database.reading() as session:
        shown = await load_experiment(session, experiment_id, owner)

    assert shown.state == experiment_pb2.STATE_COMPLETED
    assert list(shown.labels) == ["b", "a"]
    assert (shown.num_trials, list(shown.trial_ids)) == (2, [1, 2])
    assert (shown.checkpoint_count, shown.checkpoint_size) == (4, 2 << 40)
    assert shown.duration == 90
    assert shown.forked_from.value == 77
    assert shown.progress.value == 0.5
    assert (shown.username, shown.display_name) == ("determined", "determined")
    assert (shown.project_name, shown.workspace_name) == ("Uncategorized", "Uncategorized")
    assert (shown.searcher_type, shown.searcher_metric) == ("random", "loss")
    assert (shown.best_trial_id, shown.best_trial_searcher_metric) == (1, 0.25)
    assert MessageToDict(shown.hyperparameters) == CONFIG["hyperparameters"]


async def test_secrets_are_hidden_from_all_but_the_owner(
    database: Database, owner: Principal, stranger: Principal
) -> None:
    experiment_id = await add_experiment(database)

    async with database.reading() as session:
        for_stranger = await load_experiment(session, experiment_id, stranger)
        for_owner = await load_experiment(session, experiment_id, owner)

    assert "s3cr" not in str(for_stranger)
    assert "AKIA" not in str(for_stranger)
    assert "s3cr" in for_owner.original_config
    assert "s3cr" not in str(MessageToDict(for_owner)["config"])


@pytest.mark.parametrize(
    ("run_states", "shown"),
    [
        ("", "QUEUED"),
        ("PENDING", "QUEUED"),
        ("ASSIGNED PULLING", "PULLING"),
        ("STARTING PULLING", "STARTING"),
        ("PULLING RUNNING PENDING", "RUNNING"),
        ("TERMINATING", "RUNNING"),
    ],
)
async def test_the_furthest_run_says_how_far_an_experiment_is(
    database: Database, owner: Principal, run_states: str, shown: str
) -> None:
    experiment_id = await add_experiment(database)
    trial_ids = [
        await _add_running_trial(database, experiment_id, f"trial-{number}", state)
        for number, state in enumerate(run_states.split())
    ]

    async with database.reading() as session:
        experiment = await load_experiment(session, experiment_id, owner)
        trials = [await load_trial(session, trial_id) for trial_id in trial_ids]

    assert experiment.state == experiment_pb2.State.Value(f"STATE_{shown}")
    known = {"PENDING": "QUEUED", "ASSIGNED": "QUEUED", "TERMINATING": "RUNNING"}
    expected = [f"STATE_{known.get(state, state)}" for state in run_states.split()]
    assert [trial_pb2.State.Name(trial.state) for trial in trials] == expected


async def test_what_runs_elsewhere_is_shown_as_running(
    database: Database, owner: Principal
) -> None:
    experiment_id = await add_experiment(database, unmanaged=True, external_id="theirs")
    trial_id = await add_trial(database, experiment_id, external_id="its trial")

    async with database.reading() as session:
        experiment = await load_experiment(session, experiment_id, owner)
        trial = await load_trial(session, trial_id)

    assert experiment.state == experiment_pb2.STATE_RUNNING
    assert experiment.external_experiment_id == "theirs"
    assert experiment.external_trial_id == "its trial"
    assert trial.state == trial_pb2.STATE_RUNNING


async def test_a_trial_counts_the_time_of_all_its_runs(database: Database) -> None:
    experiment_id = await add_experiment(database)
    trial_id = await add_trial(
        database, experiment_id, task_id="1.t", state="COMPLETED", run_metadata={"a": [1]}
    )
    end = STARTED + timedelta(seconds=30)
    await add_run(database, "1.t.1", slots=1, began_at=STARTED, ended_at=end)

    async with database.reading() as session:
        trial = await load_trial(session, trial_id)

    assert trial.wall_clock_time == 30
    assert list(trial.task_ids) == ["1.t"]
    assert MessageToDict(trial)["taskId"] == "1.t"
    assert MessageToDict(trial.metadata) == {"a": [1]}


async def _add_running_trial(
    database: Database, experiment_id: int, task_id: str, state: str
) -> int:
    await add_run(database, f"{task_id}.1", slots=1, began_at=STARTED, state=state)
    return await add_trial(database, experiment_id, task_id=task_id)
