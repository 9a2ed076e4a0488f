"""The tasks that remove checkpoints: when there is one, what it gets, what becomes of its word."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from shipway_master.allocations.ids import TaskId
from shipway_master.checkpoints.collection import Collection
from shipway_master.checkpoints.removals import CollectionLasts, Removal, require_done
from shipway_master.store.checkpoints import CollectionRow
from shipway_master.store.database import Database, opened
from shipway_master.store.experiments import ExperimentRow
from shipway_master.store.tasks import TaskRow
from tests.master.agents.standin import StandInAgent, ack
from tests.master.asking import eventually, wait_for_end
from tests.master.checkpointing import get_checkpoint
from tests.master.checkpoints_in_store import add_checkpoint
from tests.master.experiments.faults import refusing
from tests.master.experiments_in_store import CONFIG, STARTED, add_experiment, add_trial
from tests.master.running import MasterUnderTest, Prepared, master_running

STORAGE = {"type": "shared_fs", "host_path": "/data", "storage_path": "own"}
SETTINGS: dict[str, Any] = {
    **CONFIG,
    "checkpoint_storage": {**STORAGE, "save_experiment_best": 0, "save_trial_best": 0},
    "entrypoint": "train",
    "resources": {"slots_per_trial": 8, "resource_pool": "no-such-pool"},
    "slurm": {"sbatch_args": ["--exclusive"]},
    "environment": {"image": {"cpu": "own:cpu"}, "environment_variables": {"cpu": ["A=b"]}},
    "bind_mounts": [{"host_path": "/keys", "container_path": "/mnt"}],
}


async def begin(database: Database, **changes: Any) -> tuple[int, int]:
    """Write down an experiment with one trial; return both ids."""
    config = {**SETTINGS, **changes}
    experiment_id = await add_experiment(database, config=config, state="COMPLETED")
    return experiment_id, await add_trial(database, experiment_id)


async def set_ended(database: Database, experiment_id: int, moment: datetime) -> None:
    """Write down when an experiment ended."""
    async with database.writing() as session:
        (await session.get_one(ExperimentRow, experiment_id)).ended_at = moment


async def remove(master: MasterUnderTest, *uuids: str, globs: list[str] | None = None) -> None:
    """Ask for the removal of checkpoints, or of files of theirs."""
    body: dict[str, Any] = {"checkpointUuids": uuids}
    if globs is None:
        answer = await master.call("DELETE", "/checkpoints", body, token="user")
    else:
        body["checkpointGlobs"] = globs
        answer = await master.call("POST", "/checkpoints/rm", body, token="user")
    assert (answer.status, answer.json) == (200, {}), answer.body


async def apply_policy(master: MasterUnderTest, experiment_id: int, latest: int) -> None:
    """Have a policy applied that keeps so many of the newest."""
    policy = {"saveExperimentBest": 0, "saveTrialBest": 0, "saveTrialLatest": latest}
    body = {"id": experiment_id, "checkpointStorage": policy}
    answer = await master.call("PATCH", f"/experiments/{experiment_id}", body, token="user")
    assert answer.status == 200, answer.body


def read_files(start: dict[str, Any]) -> dict[str, tuple[int, bytes]]:
    """Read mode and content of the files that a start brings, by their names in its own folder."""
    folder = "/run/determined/checkpoint_gc/"
    items = [item for part in start["Spec"]["RunSpec"]["Archives"] for item in part["Archive"]]
    return {
        item["path"].removeprefix(folder): (item["mode"], base64.b64decode(item["content"]))
        for item in items
        if item["path"].startswith(folder)
    }


def read_uuids(start: dict[str, Any]) -> list[str]:
    """Read which checkpoints a start is about."""
    uuids: list[str] = json.loads(read_files(start)["checkpoints_to_delete.json"][1])
    return uuids


def read_variables(start: dict[str, Any]) -> dict[str, str]:
    """Read the variables of a start."""
    texts = start["Spec"]["RunSpec"]["ContainerConfig"]["Env"]
    return dict(text.split("=", 1) for text in texts)


async def finish(
    master: MasterUnderTest, agent: StandInAgent, start: dict[str, Any], code: int = 0
) -> None:
    """Let a task end, once it has told, as the harness does, that everything is gone."""
    await agent.run(start)
    variables = read_variables(start)
    if code == 0:
        gone = [{"uuid": one, "resources": {"resources": {}}} for one in read_uuids(start)]
        token = variables["DET_SESSION_TOKEN"]
        answer = await master.call("PATCH", "/checkpoints", {"checkpoints": gone}, token=token)
        assert answer.status == 200, answer.body
    await agent.end(start, code)
    await wait_for_end(master, variables["DET_TASK_ID"])


async def test_what_the_task_gets(master: MasterUnderTest, database: Database) -> None:
    experiment_id, trial_id = await begin(database)
    one, other = [await add_checkpoint(database, trial_id) for _ in range(2)]

    async with StandInAgent(master.url).connected() as agent:
        await remove(master, one, other, one, globs=["model/*"])
        start = await agent.next_start()

    folder = "/run/determined/checkpoint_gc"
    run = start["Spec"]["RunSpec"]
    assert run["ContainerConfig"]["Cmd"] == [
        *(f"{folder}/gc-checkpoints-entrypoint.sh", "--experiment-id", str(experiment_id)),
        *("--storage-config", f"{folder}/storage_config.json"),
        *("--delete", f"{folder}/checkpoints_to_delete.json"),
        *("--globs", f"{folder}/checkpoints_globs.json"),
    ]
    files = read_files(start)
    assert {name: mode for name, (mode, _) in files.items()} == {
        "gc-checkpoints-entrypoint.sh": 0o700,
        "storage_config.json": 0o600,
        "checkpoints_to_delete.json": 0o600,
        "checkpoints_globs.json": 0o600,
    }
    assert json.loads(files["storage_config.json"][1]) == STORAGE
    assert json.loads(files["checkpoints_globs.json"][1]) == ["model/*"]
    assert read_uuids(start) == [one, other]
    assert start["Container"]["devices"] is None
    assert start["Container"]["description"] == f"gc-{experiment_id}"
    assert run["ContainerConfig"]["Image"] == "own:cpu"
    mounts = [(one["Source"], one["Target"]) for one in run["HostConfig"]["Mounts"]]
    assert mounts == [("/keys", "/mnt"), ("/data", "/determined_shared_fs")]
    variables = read_variables(start)
    assert (variables["DET_TASK_TYPE"], variables["A"]) == ("CHECKPOINT_GC", "b")


async def test_it_is_gone_when_the_task_says_so(
    master: MasterUnderTest, database: Database
) -> None:
    _, trial_id = await begin(database)
    one = await add_checkpoint(database, trial_id)

    async with StandInAgent(master.url).connected() as agent:
        await remove(master, one)
        await finish(master, agent, await agent.next_start(), code=1)
        failed = (await get_checkpoint(master, one))["state"]
        await remove(master, one)
        await finish(master, agent, await agent.next_start())
        await remove(master, one)  # it is gone already: there is nothing to do
        assert agent.starts.empty()

    assert failed == "STATE_COMPLETED"
    assert (await get_checkpoint(master, one))["state"] == "STATE_DELETED"

    async def is_forgotten() -> bool:
        async with database.reading() as session:
            return await session.scalar(select(func.count()).select_from(CollectionRow)) == 0

    await eventually(is_forgotten)


async def test_a_policy_is_applied_by_one_task_after_the_other(
    master: MasterUnderTest, database: Database
) -> None:
    experiment_id, trial_id = await begin(database)
    saved = [await add_checkpoint(database, trial_id, steps=steps) for steps in range(4)]

    async with StandInAgent(master.url).connected() as agent:
        await apply_policy(master, experiment_id, latest=3)
        first = await agent.next_start()
        for latest in (2, 1):
            await apply_policy(master, experiment_id, latest=latest)
        assert agent.starts.empty()
        await finish(master, agent, first)
        second = await agent.next_start()

    assert [read_uuids(start) for start in (first, second)] == [saved[:1], saved[1:3]]


async def test_what_has_a_name_or_is_gone_on_from_stays(
    master: MasterUnderTest, database: Database
) -> None:
    experiment_id, trial_id = await begin(database)
    saved = [await add_checkpoint(database, trial_id, steps=steps) for steps in range(5)]
    await master.call("POST", "/models", {"name": "cats"})
    body = {"checkpointUuid": saved[0]}
    await master.call("POST", "/models/cats/versions", body)
    other = await add_experiment(database)
    await add_trial(database, other, source_checkpoint=saved[1])

    async with StandInAgent(master.url).connected() as agent:
        await apply_policy(master, experiment_id, latest=1)
        start = await agent.next_start()
        body = {"checkpointUuid": saved[2]}
        too_late = await master.call("POST", "/models/cats/versions", body)

    assert read_uuids(start) == saved[2:4]
    assert too_late.status == 400
    assert "is being removed" in too_late.error["error"]


async def test_what_no_task_could_be_started_for_can_get_a_name(
    master: MasterUnderTest, database: Database
) -> None:
    experiment_id, trial_id = await begin(database)
    saved = await add_checkpoint(database, trial_id)
    await master.call("POST", "/models", {"name": "cats"})
    async with refusing(master.data, "INSERT ON tasks"):
        await apply_policy(master, experiment_id, latest=0)

    async def is_named() -> bool:
        answer = await master.call("POST", "/models/cats/versions", {"checkpointUuid": saved})
        return answer.status == 200

    await eventually(is_named)


async def test_a_live_trial_keeps_what_it_would_go_on_from(
    master: MasterUnderTest, database: Database
) -> None:
    experiment_id, live = await begin(database)
    ended = await add_trial(database, experiment_id, ended_at=STARTED)
    saved = [await add_checkpoint(database, trial_id) for trial_id in (live, live, ended)]
    await add_checkpoint(database, live, state="DELETED")

    async with StandInAgent(master.url).connected() as agent:
        await apply_policy(master, experiment_id, latest=0)
        start = await agent.next_start()

    assert read_uuids(start) == [saved[0], saved[2]]


async def test_each_storage_has_a_task_of_its_own(
    master: MasterUnderTest, database: Database
) -> None:
    _, trial_id = await begin(database)
    body = {"runId": trial_id, "checkpointStorage": {"type": "directory", "container_path": "/d"}}
    storage_id = (await master.call("POST", "/runs/start", body)).json["storageId"]
    one = await add_checkpoint(database, trial_id, storage_id=storage_id)
    other = await add_checkpoint(database, trial_id)

    async with StandInAgent(master.url).connected() as agent:
        await remove(master, one, other)
        starts = [await agent.next_start() for _ in range(2)]

    found = {
        read_uuids(start)[0]: json.loads(read_files(start)["storage_config.json"][1])
        for start in starts
    }
    assert found == {one: {"type": "directory", "container_path": "/d"}, other: STORAGE}


async def test_without_a_storage_nothing_can_be_removed(
    master: MasterUnderTest, database: Database
) -> None:
    _, trial_id = await begin(database, checkpoint_storage=None)
    one = await add_checkpoint(database, trial_id)

    body = {"checkpointUuids": [one]}
    answer = await master.call("DELETE", "/checkpoints", body, token="user")

    assert answer.status == 400
    assert "does not say where its files are" in answer.error["error"]


async def test_an_experiment_goes_when_its_files_are_gone(
    master: MasterUnderTest, database: Database
) -> None:
    experiment_id = await add_experiment(database, config=SETTINGS, state="COMPLETED")
    trial_id = await add_trial(database, experiment_id, run=1, state="COMPLETED")
    one = await add_checkpoint(database, trial_id)
    path = f"/experiments/{experiment_id}"

    async with StandInAgent(master.url).connected() as agent:
        assert (await master.call("DELETE", path, token="user")).status == 200
        starts = [await agent.next_start() for _ in range(2)]
        assert (await master.call("GET", path)).status == 200
        for start in starts:
            await finish(master, agent, start)

        async def is_gone() -> bool:
            return (await master.call("GET", path)).status == 404

        await eventually(is_gone)

    commands = [start["Spec"]["RunSpec"]["ContainerConfig"]["Cmd"] for start in starts]
    assert ["--delete-tensorboards" in command for command in commands] == [False, True]
    assert [read_uuids(start) for start in starts] == [[one], []]
    assert (await master.call("GET", f"/checkpoints/{one}")).status == 404


async def test_who_wants_the_files_of_tensorboards_gone_waits_for_one_task(
    master: MasterUnderTest, database: Database
) -> None:
    experiment_id, _ = await begin(database)
    path = f"/experiments/{experiment_id}/tensorboard-files"

    async with StandInAgent(master.url).connected() as agent:
        first = asyncio.ensure_future(master.call("DELETE", path, token="user"))
        start = await agent.next_start()
        with pytest.raises(TimeoutError):  # hangs up
            async with asyncio.timeout(0.3):
                await master.call("DELETE", path, token="user")
        await finish(master, agent, start)
        answer = await first

    assert answer.status == 200, answer.body
    async with database.reading() as session:
        statement = select(func.count()).where(TaskRow.task_type == "CHECKPOINT_GC")
        assert await session.scalar(statement) == 1


async def test_nobody_waits_for_ever_for_files_to_go() -> None:
    collection = Collection(experiment_id=7, storage=STORAGE, uuids=(), globs=())
    gone, lasting = [Removal(TaskId(one), collection) for one in ("t1", "t2")]
    gone.done.set()
    with pytest.raises(CollectionLasts, match="task t2 goes on"):
        await require_done([gone, lasting], limit_s=0.01)


async def test_an_end_that_was_not_looked_after_is(prepared: Prepared, tmp_path: Path) -> None:
    async with (
        master_running(prepared, tmp_path / "one") as master,
        opened(master.database_url) as database,
    ):
        now = datetime.now(UTC)
        experiment_id, _ = await begin(database)
        await set_ended(database, experiment_id, now)
        trial_id = await add_trial(database, experiment_id, ended_at=now)
        saved = [await add_checkpoint(database, trial_id) for _ in range(2)]
    left = Prepared(tmp_path / "one", prepared.admin_token, prepared.user_token)
    async with (
        master_running(left, tmp_path / "two") as master,
        StandInAgent(master.url).connected() as agent,
    ):
        start = await agent.next_start()

    assert read_uuids(start) == saved[:1]


async def test_a_task_goes_on_through_a_restart_of_the_master(
    prepared: Prepared, tmp_path: Path
) -> None:
    async with master_running(prepared, tmp_path / "one") as master:
        async with opened(master.database_url) as database:
            experiment_id, trial_id = await begin(database)
            saved = [await add_checkpoint(database, trial_id) for _ in range(3)]
        agent = StandInAgent(master.url)
        async with agent.connected():
            await apply_policy(master, experiment_id, latest=2)
            start = await agent.next_start()
            await agent.run(start)
            await apply_policy(master, experiment_id, latest=1)
    left = Prepared(tmp_path / "one", prepared.admin_token, prepared.user_token)
    async with master_running(left, tmp_path / "two") as master:
        agent.url = master.url
        async with agent.connected(reconnect=True, acks=[ack(start, "RUNNING")]):
            await finish(master, agent, start)
            second = await agent.next_start()

    assert [read_uuids(one) for one in (start, second)] == [saved[:1], saved[1:2]]
