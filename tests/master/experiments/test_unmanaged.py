"""Trials that run elsewhere report at any moment, two calls at a time."""

from __future__ import annotations

import asyncio
import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from shipway_master.experiments.records import ExperimentRecords, TrialRecord
from shipway_master.experiments.states import RunState
from shipway_master.experiments.unmanaged import UnmanagedTrials
from shipway_master.store.database import opened
from tests.master.experiments.living import send
from tests.master.experiments_in_store import add_experiment, add_trial
from tests.master.running import MasterUnderTest, Prepared
from tests.master.tasks.test_restart import Lives


@pytest.fixture
def lives(prepared: Prepared, tmp_path: Path) -> Lives:
    """Get a master that can be restarted."""
    return Lives(prepared, tmp_path)


async def test_a_sign_of_life_does_not_undo_an_end_that_was_just_reported(
    master: MasterUnderTest,
) -> None:
    ended: list[str] = []
    async with opened(master.database_url) as database:
        records = ExperimentRecords(database)
        trials = UnmanagedTrials(database, records, announce_end=ended.append)
        number = await add_experiment(database, unmanaged=True)
        trial_id = await add_trial(database, number, task_id="1.a")
        experiment = await records.load(number)
        assert experiment is not None
        before = await load(records, trial_id)

        await trials.report(experiment, copy.copy(before), RunState.COMPLETED)
        await trials.report(experiment, before, None)
        await trials.give_up_silent(before=datetime.now(UTC) + timedelta(hours=1))

        after = await load(records, trial_id)
    assert after.state is RunState.COMPLETED
    assert after.last_activity_at is not None
    assert ended == ["1.a"]


async def test_a_silent_trial_is_given_up_once(master: MasterUnderTest) -> None:
    ended: list[str] = []
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    async with opened(master.database_url) as database:
        records = ExperimentRecords(database)
        trials = UnmanagedTrials(database, records, announce_end=ended.append)
        number = await add_experiment(database, unmanaged=True)
        await add_trial(database, number, task_id="1.a", last_activity_at=long_ago)
        heard_of = await add_trial(
            database, number, task_id="1.b", last_activity_at=datetime.now(UTC)
        )
        for _ in range(2):
            await trials.give_up_silent(before=datetime.now(UTC) - timedelta(minutes=10))
        assert (await load(records, heard_of)).state is RunState.ACTIVE
    assert ended == ["1.a"]


async def test_who_could_not_reach_the_master_is_not_silent(lives: Lives) -> None:
    """It was away for an hour, and its clock is another one now: from now on it listens again."""
    async with lives.next() as master, opened(master.database_url) as database:
        number = await add_experiment(database, unmanaged=True)
        long_ago = datetime.now(UTC) - timedelta(hours=1)
        await add_trial(database, number, task_id="1.a", last_activity_at=long_ago)
    async with lives.next() as master:
        for _ in range(20):
            [trial] = (await send(master, "GET", f"/experiments/{number}/trials"))["trials"]
            assert trial["state"] != "STATE_ERROR"


async def test_an_experiment_that_is_being_deleted_stays_so(master: MasterUnderTest) -> None:
    async with opened(master.database_url) as database:
        records = ExperimentRecords(database)
        trials = UnmanagedTrials(database, records, announce_end=print)
        number = await add_experiment(database, unmanaged=True, state="DELETING")
        trial_id = await add_trial(database, number, task_id="1.a")
        experiment = await records.load(number)
        assert experiment is not None
        await trials.report(experiment, await load(records, trial_id), RunState.COMPLETED)
        experiment = await records.load(number)
    assert experiment is not None
    assert experiment.state is RunState.DELETING


async def test_of_two_who_name_the_same_at_once_both_get_the_same(
    master: MasterUnderTest,
) -> None:
    config = yaml.safe_dump({"name": "elsewhere", "searcher": {"name": "single", "metric": "m"}})
    body: dict[str, Any] = {"config": config, "unmanaged": True}
    path = "/experiments/by-external-id/theirs"
    number = await ask_at_once(master, path, body, "experiment")
    body = {
        "externalTrialId": "t",
        "createTrialRequest": {"experimentId": number, "unmanaged": True},
    }
    await ask_at_once(master, "/trials", body, "trial")


async def ask_at_once(master: MasterUnderTest, path: str, body: Any, kind: str) -> int:
    """Put something four times at once; return the id of the one that all are told of."""
    calls = [send(master, "PUT", path, body) for _ in range(4)]
    (number,) = {answer[kind]["id"] for answer in await asyncio.gather(*calls)}
    return int(number)


async def load(records: ExperimentRecords, trial_id: int) -> TrialRecord:
    """Load a trial that is there."""
    trial = await records.load_trial(trial_id)
    assert trial is not None
    return trial


@pytest.mark.parametrize("verb", ["activate", "pause", "cancel", "kill"])
async def test_what_runs_elsewhere_cannot_be_started_or_stopped_here(
    master: MasterUnderTest, verb: str
) -> None:
    async with opened(master.database_url) as database:
        number = await add_experiment(database, unmanaged=True)

    answer = await master.call("POST", f"/experiments/{number}/{verb}")

    assert answer.status == 400
    assert b"runs elsewhere: only the program that reports for it can stop it" in answer.body
