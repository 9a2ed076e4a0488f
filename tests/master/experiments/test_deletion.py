"""Experiments whose files cannot be removed stay, and say so."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from shipway_master.store.database import opened
from tests.master.agents.standin import StandInAgent
from tests.master.asking import eventually
from tests.master.checkpointing import report_checkpoint
from tests.master.experiments.living import (
    create,
    fetch_trials,
    next_run,
    send,
    wait_for_state,
)
from tests.master.experiments_in_store import add_experiment, add_trial
from tests.master.running import MasterUnderTest

STORAGE = {"type": "shared_fs", "host_path": "/tmp"}


async def test_an_experiment_stays_whose_files_could_not_be_removed(
    master: MasterUnderTest,
) -> None:
    config = {"name": "old", "checkpoint_storage": STORAGE, "environment": {"image": "i"}}
    async with opened(master.database_url) as database:
        changes: dict[str, Any] = {"state": "COMPLETED", "resource_pool": "default"}
        experiment_id = await add_experiment(database, config=config, **changes)
        await add_trial(database, experiment_id, task_id="task-1", run=1, state="COMPLETED")
    await report_checkpoint(master, str(uuid.uuid4()))

    async def look() -> bool:
        answer = await master.call("GET", f"/experiments/{experiment_id}")
        return bool(answer.json["experiment"]["state"] == "STATE_DELETE_FAILED")

    async with StandInAgent(master.url).connected() as agent:
        assert (await master.call("DELETE", f"/experiments/{experiment_id}")).status == 200
        for _ in ("its checkpoints", "its TensorBoard files"):
            start = await agent.next_start()
            await agent.run(start)
            await agent.end(start, 1)

        assert await eventually(look)


async def test_a_trial_whose_experiment_goes_on_meanwhile_stays(
    master: MasterUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    search = {"name": "random", "metric": "loss", "max_trials": 2, "max_concurrent_trials": 1}

    async def look() -> bool:
        return any("cannot be deleted" in record.getMessage() for record in caplog.records)

    async with StandInAgent(master.url).connected() as agent:
        number = await create(master, searcher=search, max_restarts=0)
        failing = await next_run(master, agent)
        await failing.save(str(uuid.uuid4()), steps=1)
        await agent.end(failing.start, 1)
        await agent.end((await next_run(master, agent)).start)
        await wait_for_state(master, number, "COMPLETED")

        await send(master, "POST", "/runs/delete", {"projectId": 1, "runIds": [failing.id]})
        removal = await agent.next_start()
        await send(master, "POST", "/experiments/continue", {"id": number})
        again = await next_run(master, agent)
        await agent.run(removal)
        await agent.end(removal)
        assert await eventually(look)
        await agent.end(again.start)
        await wait_for_state(master, number, "COMPLETED")

    assert again.id == failing.id
    assert len(await fetch_trials(master, number)) == 2
