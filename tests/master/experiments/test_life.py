"""What becomes of experiments when the database takes nothing, or the master dies, in between."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.master.agents.standin import StandInAgent, ack
from tests.master.asking import eventually, read_log, wait_for_end, wait_for_line
from tests.master.experiments.faults import FILE, change, copy_data, heal, refusing
from tests.master.experiments.living import (
    PlayedTrial,
    create,
    fetch_state,
    fetch_trials,
    next_run,
    send,
    wait_for_state,
)
from tests.master.running import MasterUnderTest, Prepared
from tests.master.tasks.test_restart import Lives

SAVED = "0e8e2b8c-9d2f-4c7b-8c53-0a51b6a3d3f1"
SEARCH = {"name": "random", "metric": "loss", "max_trials": 3, "max_concurrent_trials": 1}


@pytest.fixture
def lives(prepared: Prepared, tmp_path: Path) -> Lives:
    """Get a master that can be restarted."""
    return Lives(prepared, tmp_path)


async def wait_for_complaint(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Wait until the master has said that it has to wait."""

    async def look() -> bool:
        return any(text in record.getMessage() for record in caplog.records)

    await eventually(look)


# a full disk


async def test_a_pause_that_cannot_be_stored_can_be_asked_for_again(
    master: MasterUnderTest,
) -> None:
    async with StandInAgent(master.url).connected() as agent:
        number = await create(master)
        trial = await next_run(master, agent)
        async with refusing(master.data, "UPDATE ON experiments", "NEW.state = 'PAUSED'"):
            refused = await master.call("POST", f"/experiments/{number}/pause")
        assert refused.status == 503
        assert await fetch_state(master, number) != "PAUSED"

        await send(master, "POST", f"/experiments/{number}/pause")
        await trial.leave()
        await wait_for_state(master, number, "PAUSED")
        await send(master, "POST", f"/experiments/{number}/activate")
        again = await next_run(master, agent)
        await agent.end(again.start)
        await wait_for_state(master, number, "COMPLETED")


@pytest.mark.parametrize(
    ("event", "when"),
    [
        ("UPDATE ON trials", "NEW.state = 'PAUSED'"),
        ("UPDATE ON tasks", "NEW.state = 'STOPPING_PAUSED'"),
    ],
    ids=["of the trial", "of the task"],
)
async def test_a_pause_that_is_half_stored_is_done_when_there_is_room(
    master: MasterUnderTest, caplog: pytest.LogCaptureFixture, event: str, when: str
) -> None:
    async with StandInAgent(master.url).connected() as agent:
        number = await create(master)
        trial = await next_run(master, agent)
        async with refusing(master.data, event, when):
            pause = asyncio.ensure_future(send(master, "POST", f"/experiments/{number}/pause"))
            await wait_for_complaint(caplog, "has to wait")
            assert not await trial.is_asked_to_leave()
            assert not pause.done()
        await pause
        await trial.leave()
        assert [one["state"] for one in await fetch_trials(master, number)] == ["STATE_PAUSED"]


@pytest.mark.parametrize(
    "event",
    ["INSERT ON tasks", "INSERT ON allocations", "INSERT ON trials"],
    ids=["its task", "its run", "the trial"],
)
async def test_a_trial_that_cannot_be_stored_begins_when_there_is_room(
    master: MasterUnderTest, caplog: pytest.LogCaptureFixture, event: str
) -> None:
    async with StandInAgent(master.url).connected() as agent:
        async with refusing(master.data, event):
            creation = asyncio.ensure_future(create(master))
            await wait_for_complaint(caplog, "trying again")
            assert not creation.done()
        number = await creation
        trial = await next_run(master, agent)
        await agent.end(trial.start)
        await wait_for_state(master, number, "COMPLETED")
        assert trial.run == 1
        assert agent.starts.empty()


async def test_an_end_that_cannot_be_stored_is_not_forgotten(
    master: MasterUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    """The task of a trial ended without a run, so that only the experiment can end the trial."""
    number = await create(master)
    async with refusing(master.data, "UPDATE ON trials", "NEW.state = 'CANCELED'"):
        cancel = asyncio.ensure_future(send(master, "POST", f"/experiments/{number}/cancel"))
        await wait_for_complaint(caplog, "trying again")
        assert not cancel.done()
    await cancel
    await wait_for_state(master, number, "CANCELED")


# a crash


@pytest.mark.parametrize(
    ("event", "when"),
    [("UPDATE ON trials", "NEW.judged_run = 1"), ("INSERT ON allocations", "NEW.run = 2")],
    ids=["before it is judged", "before the next run"],
)
async def test_a_run_that_failed_is_judged_once_whatever_comes_in_between(
    lives: Lives, tmp_path: Path, caplog: pytest.LogCaptureFixture, event: str, when: str
) -> None:
    at_crash = tmp_path / "at-crash"
    async with lives.next() as master, StandInAgent(master.url).connected() as agent:
        number = await create(master)
        trial = await next_run(master, agent)
        async with refusing(master.data, event, when):
            await agent.end(trial.start, code=3)
            await wait_for_complaint(caplog, "trying again")
            await asyncio.to_thread(copy_data, master.data, at_crash)
    lives.go_back(at_crash)
    heal(at_crash)
    async with lives.next() as master:
        async with StandInAgent(master.url).connected(reconnect=True) as agent:
            second = await next_run(master, agent)
            assert second.run == 2
            assert await count_restarts(master, number) == 1
            await agent.end(second.start, code=3)
            await wait_for_state(master, number, "ERROR")
            assert await count_restarts(master, number) == 2
        log = await read_log(master, trial.task_id)
    assert any("it failed 2 times, and max_restarts is 1" in line for line in log)


async def count_restarts(master: MasterUnderTest, number: int) -> int:
    """Return how often the only trial of an experiment failed."""
    return int((await fetch_trials(master, number))[0]["restarts"])


@pytest.mark.parametrize(("wish", "end"), [("PAUSED", "PAUSED"), ("STOPPING_CANCELED", "CANCELED")])
async def test_a_wish_about_an_experiment_reaches_its_trials_after_a_crash(
    lives: Lives, wish: str, end: str
) -> None:
    agent = StandInAgent("")
    async with lives.next() as master:
        agent.url = master.url
        async with agent.connected():
            number = await create(master)
            trial = await next_run(master, agent)
    change(lives.data, "UPDATE experiments SET state = ?", [wish])
    await check_that_it_leaves(lives, trial, number, end)


async def test_a_pause_reaches_a_run_after_a_crash(lives: Lives) -> None:
    agent = StandInAgent("")
    async with lives.next() as master:
        agent.url = master.url
        async with agent.connected():
            number = await create(master)
            trial = await next_run(master, agent)
    change(lives.data, "UPDATE experiments SET state = 'PAUSED'")
    change(lives.data, "UPDATE trials SET state = 'PAUSED'")
    change(lives.data, "UPDATE tasks SET state = 'STOPPING_PAUSED'")
    await check_that_it_leaves(lives, trial, number, "PAUSED")


async def check_that_it_leaves(lives: Lives, trial: PlayedTrial, number: int, end: str) -> None:
    """Check that a trial of the life before is ended, and in which state the experiment is then."""
    agent = trial.agent
    async with lives.next() as master:
        agent.url = master.url
        async with agent.connected(reconnect=True, acks=[ack(trial.start, "RUNNING")]):
            assert await agent.next_kill() == trial.container_id  # nobody polls any more
            await agent.end(trial.start, code=137)
            await wait_for_state(master, number, end)
            assert agent.starts.empty()


@pytest.mark.parametrize("has_run", [True, False], ids=["runs", "was never started"])
async def test_what_is_left_of_an_experiment_that_cannot_be_read_ends(
    lives: Lives, has_run: bool
) -> None:
    agent = StandInAgent("")
    async with lives.next() as master:
        agent.url = master.url
        async with agent.connected():
            number = await create(master)
            trial = await next_run(master, agent)
    change(lives.data, "UPDATE experiments SET search = ?", ['{"version": 0}'])
    if not has_run:
        change(lives.data, "DELETE FROM allocations")
    async with lives.next() as master:
        agent.url = master.url
        assert await fetch_state(master, number) == "ERROR"
        assert (await fetch_trials(master, number))[0]["state"] == "STATE_ERROR"
        if has_run:
            async with agent.connected(reconnect=True, acks=[ack(trial.start, "RUNNING")]):
                assert await agent.next_kill() == trial.container_id
                await agent.end(trial.start, code=137)
        await wait_for_end(master, trial.task_id)


async def test_a_task_that_outlived_its_experiment_in_the_database_ends(lives: Lives) -> None:
    async with lives.next() as master, StandInAgent(master.url).connected() as agent:
        number = await create(master)
        trial = await next_run(master, agent)
        await agent.end(trial.start)
        await wait_for_state(master, number, "COMPLETED")
    change(lives.data, "UPDATE tasks SET state = 'ACTIVE', ended_at = NULL")
    async with lives.next() as master:
        task = (await send(master, "GET", f"/tasks/{trial.task_id}"))["task"]
        assert task["endTime"]
        assert await fetch_state(master, number) == "COMPLETED"


async def test_trials_begin_with_a_checkpoint_although_the_master_crashed_before_the_first(
    lives: Lives,
) -> None:
    agent = StandInAgent("")
    async with lives.next() as master:
        agent.url = master.url
        async with agent.connected():
            number = await create(master)
            first = await next_run(master, agent)
            await first.save(SAVED, steps=7)
            await agent.end(first.start)
            await wait_for_state(master, number, "COMPLETED")
            searcher = {"name": "single", "metric": "loss", "source_trial_id": first.id}
            paused = await create(master, activate=False, searcher=searcher)
            shown = (await fetch_trials(master, paused))[0]
            assert shown["warmStartCheckpointUuid"] == SAVED
    change(lives.data, "DELETE FROM trials WHERE experiment_id = ?", [paused])
    change(lives.data, "UPDATE experiments SET search = NULL WHERE id = ?", [paused])
    async with lives.next() as master:
        agent.url = master.url
        async with agent.connected():
            await send(master, "POST", f"/experiments/{paused}/activate")
            trial = await next_run(master, agent)
            await agent.end(trial.start)
            await wait_for_state(master, paused, "COMPLETED")
    assert trial.environment["DET_LATEST_CHECKPOINT"] == SAVED
    assert trial.environment["DET_STEPS_COMPLETED"] == "0"


# trials that never ran, and sources that are not there


async def test_killing_the_only_trial_of_a_paused_experiment_ends_it(
    master: MasterUnderTest,
) -> None:
    number = await create(master, activate=False)
    [trial] = await fetch_trials(master, number)
    await send(master, "POST", f"/trials/{trial['id']}/kill")
    await wait_for_state(master, number, "CANCELED")


@pytest.mark.parametrize("how", ["cancel", "kill"])
async def test_a_search_whose_trials_all_wait_makes_no_more_when_it_is_ended(
    master: MasterUnderTest, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """The experiment ends at once, before it hears of the end of its trial's task."""
    caplog.set_level("INFO")
    number = await create(master, searcher=SEARCH)
    await send(master, "POST", f"/experiments/{number}/{how}")
    assert await fetch_state(master, number) == "CANCELED"
    await wait_for_complaint(caplog, "trial ended")
    await send(master, "GET", f"/experiments/{number}")
    assert [one["state"] for one in await fetch_trials(master, number)] == ["STATE_CANCELED"]
    assert (await send(master, "GET", "/tasks"))["allocationIdToSummary"] == {}


async def test_killing_a_trial_that_never_ran_lets_the_search_go_on(
    master: MasterUnderTest,
) -> None:
    number = await create(master, activate=False, searcher=SEARCH)
    [trial] = await fetch_trials(master, number)
    await send(master, "POST", f"/trials/{trial['id']}/kill")
    states = [one["state"] for one in await fetch_trials(master, number)]
    assert states == ["STATE_CANCELED", "STATE_PAUSED"]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({"source_trial_id": 77}, "trial 77 does not exist"),
        ({"source_checkpoint_uuid": SAVED}, f"checkpoint {SAVED} does not exist"),
        ({"source_checkpoint_uuid": "x"}, "searcher.source_checkpoint_uuid"),
    ],
    ids=["trial", "checkpoint", "text"],
)
async def test_a_source_that_is_not_there_is_refused(
    master: MasterUnderTest, source: dict[str, Any], problem: str
) -> None:
    config = f"searcher: {{name: single, metric: loss, {', '.join(f'{k}: {v}' for k, v in source.items())}}}"
    answer = await master.call(
        "POST",
        "/experiments",
        {"config": f"entrypoint: x\nname: x\n{config}\n", "validateOnly": True},
    )
    assert answer.status == 400
    assert problem in answer.error["error"]


async def test_what_a_trial_s_log_says_of_its_failures(master: MasterUnderTest) -> None:
    async with StandInAgent(master.url).connected() as agent:
        await create(master)
        trial = await next_run(master, agent)
        await agent.end(trial.start, code=3)
        said = "the trial is started again: it failed once, and max_restarts is 1"
        await wait_for_line(master, trial.task_id, said)


async def test_a_change_of_what_is_kept_does_not_end_what_is_being_continued(
    master: MasterUnderTest,
) -> None:
    """Both wait for the database, which somebody else writes to."""
    number = await create(master)
    await send(master, "POST", f"/experiments/{number}/kill")
    await wait_for_state(master, number, "CANCELED")
    patch = {"name": "another", "checkpoint_storage": {"save_trial_best": 3}}
    connection = sqlite3.connect(
        master.data / FILE, timeout=10, isolation_level=None, check_same_thread=False
    )
    with closing(connection) as other:
        await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
        path = f"/experiments/{number}"
        patching = asyncio.ensure_future(send(master, "PATCH", path, patch))
        await send(master, "GET", path)
        going_on = asyncio.ensure_future(
            send(master, "POST", "/experiments/continue", {"id": number})
        )
        await send(master, "GET", path)
        assert not patching.done()
        assert not going_on.done()
        other.execute("ROLLBACK")
        await asyncio.gather(patching, going_on)
        found = other.execute("SELECT state, is_continued, name FROM experiments").fetchall()
    assert found == [("ACTIVE", 1, "another")]
    async with StandInAgent(master.url).connected() as agent:
        trial = await next_run(master, agent)
        await agent.end(trial.start)
        await wait_for_state(master, number, "COMPLETED")
