"""Generic tasks: pre-empted, paused, killed, and started again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.master.agents.standin import StandInAgent
from tests.master.asking import (
    create,
    eventually,
    get_task,
    read_log,
    wait_for_end,
    wait_for_line,
    wait_for_state,
)
from tests.master.experiments.faults import refusing
from tests.master.running import MasterUnderTest, Prepared, master_running, until

CONFIG = "entrypoint: [python3, train.py]\nresources: {slots: 2}\n"


@pytest.fixture
async def agent(master: MasterUnderTest) -> AsyncGenerator[StandInAgent]:
    """Connect an agent with four slots."""
    async with StandInAgent(master.url).connected() as connected:
        yield connected


async def begin(master: MasterUnderTest, agent: StandInAgent, **more: Any) -> tuple[str, Any]:
    """Create a task and have its container run; return its id and its start order."""
    task_id = await create(master, CONFIG, **more)
    start = await agent.next_start()
    await agent.run(start)
    await wait_for_state(master, task_id, "RUNNING")
    return task_id, start


async def act(master: MasterUnderTest, task_id: str, what: str, run: int = 1) -> None:
    """Send a signal of a run."""
    answer = await master.call("POST", f"/allocations/{task_id}.{run}/{what}")
    assert answer.status == 200, answer.body


async def poll(master: MasterUnderTest, task_id: str, seconds: int, run: int = 1) -> bool:
    """Ask whether a run must leave."""
    path = f"/allocations/{task_id}.{run}/signals/preemption?timeout_seconds={seconds}"
    preempt: bool = (await master.call("GET", path)).json["preempt"]
    return preempt


def variables_of(start: Mapping[str, Any]) -> dict[str, str]:
    """The environment of a start order."""
    texts = start["Spec"]["RunSpec"]["ContainerConfig"]["Env"]
    return dict(text.split("=", 1) for text in texts)


async def test_a_pre_empted_task_comes_back_as_the_next_allocation(
    master: MasterUnderTest, agent: StandInAgent
) -> None:
    task_id, start = await begin(master, agent)
    assert variables_of(start)["SHIPWAY_ON_TERM"] == "report"
    assert await poll(master, task_id, 0) is False
    waiting = asyncio.create_task(poll(master, task_id, 60))
    await act(master, task_id, "signals/pending_preemption")
    await act(master, task_id, "signals/pending_preemption")
    assert await waiting is True
    await act(master, task_id, "signals/ack_preemption")
    await agent.end(start)
    again = await agent.next_start()
    assert variables_of(again)["DET_ALLOCATION_ID"] == f"{task_id}.2"
    assert again["Container"]["id"] != start["Container"]["id"]
    await agent.run(again)
    await agent.end(again)
    task = await wait_for_end(master, task_id)
    assert [one["allocationId"] for one in task["allocations"]] == [f"{task_id}.2", f"{task_id}.1"]
    assert [one["statusCode"] for one in task["allocations"]] == [0, 0]
    assert task["taskState"] == "GENERIC_TASK_STATE_COMPLETED"
    log = await read_log(master, task_id)
    told = (
        "gracefully terminating allocation's remaining resources "
        "(reason: preempted by the scheduler)"
    )
    assert log.count(told) == 1
    assert await poll(master, task_id, 60) is False, "an ended run need not leave"


async def test_leaving_without_a_word_is_being_done(
    master: MasterUnderTest, agent: StandInAgent
) -> None:
    task_id, start = await begin(master, agent)
    await act(master, task_id, "signals/pending_preemption")
    await agent.end(start)
    task = await wait_for_end(master, task_id)
    assert task["taskState"] == "GENERIC_TASK_STATE_COMPLETED"
    assert len(task["allocations"]) == 1


@pytest.mark.parametrize(
    ("code", "again"), [(137, True), (143, True), (1, False)], ids=["kill", "term", "error"]
)
async def test_what_the_scheduler_ended_by_force_comes_back_and_an_error_does_not(
    master: MasterUnderTest, agent: StandInAgent, code: int, again: bool
) -> None:
    task_id, start = await begin(master, agent)
    await act(master, task_id, "signals/pending_preemption")
    await agent.end(start, code)
    if again:
        assert variables_of(await agent.next_start())["DET_ALLOCATION_ID"] == f"{task_id}.2"
    else:
        task = await wait_for_end(master, task_id)
        assert task["taskState"] == "GENERIC_TASK_STATE_ERROR"


async def test_a_failed_task_is_over(master: MasterUnderTest, agent: StandInAgent) -> None:
    task_id, start = await begin(master, agent)
    await agent.end(start, 5)
    task = await wait_for_end(master, task_id)
    assert task["taskState"] == "GENERIC_TASK_STATE_ERROR"
    assert task["allocations"][0]["statusCode"] == 5


async def test_a_task_that_listens_is_asked_to_pause(
    master: MasterUnderTest, agent: StandInAgent
) -> None:
    task_id, start = await begin(master, agent)
    waiting = asyncio.create_task(poll(master, task_id, 60))

    async def listens() -> bool:
        await asyncio.sleep(0)
        return not waiting.done()

    await eventually(listens)
    await poll(master, task_id, 0)
    assert (await master.call("POST", f"/tasks/{task_id}/pause")).status == 200
    assert await waiting is True
    await act(master, task_id, "signals/ack_preemption")
    await agent.end(start)

    async def paused() -> bool:
        state = (await get_task(master, task_id))["taskState"]
        return bool(state == "GENERIC_TASK_STATE_PAUSED")

    await eventually(paused)
    assert agent.kills.empty()
    assert (await master.call("GET", "/tasks")).json["allocationIdToSummary"] == {}
    assert (await master.call("POST", f"/tasks/{task_id}/unpause")).status == 200
    assert variables_of(await agent.next_start())["DET_ALLOCATION_ID"] == f"{task_id}.2"


async def test_a_task_that_never_asks_is_killed_to_pause(
    master: MasterUnderTest, agent: StandInAgent
) -> None:
    task_id, start = await begin(master, agent)
    assert (await master.call("POST", f"/tasks/{task_id}/pause")).status == 200
    assert await agent.next_kill() == start["Container"]["id"]
    await agent.end(start, 137)

    async def paused() -> bool:
        state = (await get_task(master, task_id))["taskState"]
        return bool(state == "GENERIC_TASK_STATE_PAUSED")

    await eventually(paused)


async def test_pausing_and_unpausing_at_the_wrong_time(
    master: MasterUnderTest, agent: StandInAgent
) -> None:
    task_id, start = await begin(master, agent)
    running = await master.call("POST", f"/tasks/{task_id}/unpause")
    assert (running.status, running.error["reason"]) == (400, "FailedPrecondition")
    await agent.end(start)
    await wait_for_end(master, task_id)
    ended = await master.call("POST", f"/tasks/{task_id}/pause")
    assert "COMPLETED cannot be paused" in ended.error["error"]
    fixed, _ = await begin(master, agent, noPause=True)
    refused = await master.call("POST", f"/tasks/{fixed}/pause")
    assert "no_pause" in refused.error["error"]


async def test_a_paused_task_is_killed_at_once(
    master: MasterUnderTest, agent: StandInAgent
) -> None:
    task_id, start = await begin(master, agent)
    await master.call("POST", f"/tasks/{task_id}/pause")
    await agent.next_kill()
    await agent.end(start, 137)

    async def paused() -> bool:
        state = (await get_task(master, task_id))["taskState"]
        return bool(state == "GENERIC_TASK_STATE_PAUSED")

    await eventually(paused)
    await master.call("POST", f"/tasks/{task_id}/kill", {"taskId": task_id})
    assert (await wait_for_end(master, task_id))["taskState"] == "GENERIC_TASK_STATE_CANCELED"


async def test_a_kill_takes_the_children_along(
    master: MasterUnderTest, agent: StandInAgent
) -> None:
    parent, parent_start = await begin(master, agent)
    child, child_start = await begin(master, agent, parentId=parent)
    grandchild = await create(master, CONFIG, parentId=child)
    body = {"taskId": child, "killFromRoot": True}
    assert (await master.call("POST", f"/tasks/{child}/kill", body)).status == 200
    assert (await wait_for_end(master, grandchild))["taskState"] == "GENERIC_TASK_STATE_CANCELED"
    for start in (parent_start, child_start):
        await agent.end(start, 137)
    for task_id in (parent, child):
        task = await wait_for_end(master, task_id)
        assert task["taskState"] == "GENERIC_TASK_STATE_CANCELED"
    assert {await agent.next_kill() for _ in range(2)} == {
        start["Container"]["id"] for start in (parent_start, child_start)
    }


async def test_a_child_that_ends_while_its_parent_is_killed_has_its_own_end(
    master: MasterUnderTest, agent: StandInAgent, caplog: pytest.LogCaptureFixture
) -> None:
    parent, parent_start = await begin(master, agent)
    waiting = await create(master, CONFIG.replace("2", "4"), parentId=parent)
    child, child_start = await begin(master, agent, parentId=parent)
    of_the_first = f"NEW.task_id = '{waiting}'"
    async with refusing(master.data, "UPDATE ON allocations", of_the_first):
        kill = asyncio.ensure_future(master.call("POST", f"/tasks/{parent}/kill", {}))
        await until(lambda: "an allocation cannot be stored; trying again" in caplog.messages)
        await agent.end(child_start)
        await wait_for_end(master, child)
    await kill
    await agent.end(parent_start, 137)
    await wait_for_end(master, parent)
    states = [(await get_task(master, one))["taskState"] for one in (parent, waiting, child)]
    assert states == [
        f"GENERIC_TASK_STATE_{state}" for state in ("CANCELED", "CANCELED", "COMPLETED")
    ]


async def test_who_does_not_leave_in_time_is_killed_and_comes_back(
    master: MasterUnderTest, agent: StandInAgent
) -> None:
    task_id = await create(master, CONFIG + "preemption_timeout: 1\n")
    start = await agent.next_start()
    await agent.run(start)
    await wait_for_state(master, task_id, "RUNNING")
    await act(master, task_id, "signals/pending_preemption")
    assert await agent.next_kill() == start["Container"]["id"]
    await wait_for_line(master, task_id, "it did not leave within 1 s of its preemption")
    await agent.end(start, 137)
    assert variables_of(await agent.next_start())["DET_ALLOCATION_ID"] == f"{task_id}.2"


async def test_a_more_important_task_makes_a_pre_emptible_one_leave(
    prepared: Prepared, tmp_path: Path
) -> None:
    manager = {"type": "agent", "scheduler": {"preemption": True}}
    async with (
        master_running(prepared, tmp_path / "data", resource_manager=manager) as master,
        StandInAgent(master.url, slots=2).connected() as agent,
    ):
        low, start = await begin(master, agent)
        await poll(master, low, 0)
        equal = await create(master, CONFIG)
        assert await poll(master, low, 0) is False, "who is equally important waits"
        urgent = await create(master, "entrypoint: [x]\nresources: {slots: 2, priority: 1}\n")
        assert await poll(master, low, 30) is True
        await act(master, low, "signals/ack_preemption")
        await agent.end(start)
        first = await agent.next_start()
        assert variables_of(first)["DET_TASK_ID"] == urgent
        await agent.run(first)
        await agent.end(first)
        back = await agent.next_start()
        assert variables_of(back)["DET_ALLOCATION_ID"] == f"{low}.2", "it kept its place"
        assert (await get_task(master, equal))["allocations"][0]["state"] == "STATE_QUEUED"


async def test_a_task_over_two_agents_meets_and_ends_together(master: MasterUnderTest) -> None:
    async with (
        StandInAgent(master.url, "a").connected() as one,
        StandInAgent(master.url, "b").connected() as two,
    ):

        async def both() -> bool:
            agents = (await master.call("GET", "/agents")).json["agents"]
            return [len(agent["slots"]) for agent in agents] == [4, 4]

        await eventually(both)
        task_id = await create(master, "entrypoint: [x]\nresources: {slots: 8}\n")
        starts = [await agent.next_start() for agent in (one, two)]
        modes = {s["Spec"]["RunSpec"]["HostConfig"]["NetworkMode"] for s in starts}
        assert modes == {"host"}
        for agent, start in zip((one, two), starts, strict=True):
            await agent.run(start)
        paths = [
            f"/allocations/{task_id}.1/resources/{start['Container']['id']}/rendezvous"
            for start in starts
        ]
        answers = await asyncio.gather(*(master.call("GET", path) for path in paths))
        infos = [answer.json["rendezvousInfo"] for answer in answers]
        assert sorted(info["rank"] for info in infos) == [0, 1]
        assert infos[0]["slots"] == infos[1]["slots"] == [4, 4]
        run = (await get_task(master, task_id))["allocations"][0]
        assert run["isReady"] is True
        late = await master.call("GET", paths[0])
        assert late.json["rendezvousInfo"] == infos[0]
        await one.end(starts[0], 3)
        assert await two.next_kill() == starts[1]["Container"]["id"]
        await two.end(starts[1], 137)
        task = await wait_for_end(master, task_id)
    assert task["allocations"][0]["statusCode"] == 3, "the first failure counts"


async def test_daemons_end_when_the_others_have(master: MasterUnderTest) -> None:
    async with (
        StandInAgent(master.url, "a").connected() as one,
        StandInAgent(master.url, "b").connected() as two,
    ):

        async def both() -> bool:
            agents = (await master.call("GET", "/agents")).json["agents"]
            return [len(agent["slots"]) for agent in agents] == [4, 4]

        await eventually(both)
        task_id = await create(master, "entrypoint: [x]\nresources: {slots: 8}\n")
        starts = [await agent.next_start() for agent in (one, two)]
        for agent, start in zip((one, two), starts, strict=True):
            await agent.run(start)
        await act(master, task_id, f"resources/{starts[1]['Container']['id']}/daemon")
        unknown = await master.call("POST", f"/allocations/{task_id}.1/resources/nope/daemon")
        assert unknown.status == 404
        await one.end(starts[0])
        assert await two.next_kill() == starts[1]["Container"]["id"]
        await two.end(starts[1], 137)
        task = await wait_for_end(master, task_id)
    assert task["taskState"] == "GENERIC_TASK_STATE_COMPLETED"
    assert task["allocations"][0]["statusCode"] == 0


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ("[1, 2]", "mapping"),
        (":", "not YAML"),
        ("entrypoint: [x]\nfoo: 1", "foo"),
        ("resources: {slots: 1}", "entrypoint"),
    ],
)
async def test_a_bad_configuration_is_refused(
    master: MasterUnderTest, config: str, word: str
) -> None:
    answer = await master.call("POST", "/generic-tasks", {"config": config})
    assert answer.status == 400
    assert word in answer.error["error"]


async def test_configuration_comes_back_without_its_secrets(master: MasterUnderTest) -> None:
    text = (
        "entrypoint: [x]\nenvironment: {registry_auth: {username: u, password: s3cret}}\n"
        "description: mine\n"
    )
    task_id = await create(master, text)
    config = (await master.call("GET", f"/tasks/{task_id}/config")).json["config"]
    assert '"mine"' in config
    assert "s3cret" not in config
    assert "s3cret" not in str(await get_task(master, task_id))
    forked = await create(master, "", forkedFrom=task_id)
    assert (await get_task(master, forked))["forkedFrom"] == task_id


async def test_a_context_can_be_inherited(master: MasterUnderTest, agent: StandInAgent) -> None:
    files = [{"path": "a.txt", "type": 48, "content": "aGk=", "mode": 420, "mtime": "5"}]
    parent = await create(master, CONFIG, contextDirectory=files)
    await agent.next_start()
    await create(master, CONFIG, parentId=parent, inheritContext=True)
    start = await agent.next_start()
    paths = [
        item["path"] for part in start["Spec"]["RunSpec"]["Archives"] for item in part["Archive"]
    ]
    assert "/run/determined/workdir/a.txt" in paths
    orphan = await master.call("POST", "/generic-tasks", {"config": CONFIG, "inheritContext": True})
    assert orphan.status == 400
    nobody = await master.call("POST", "/generic-tasks", {"config": CONFIG, "parentId": "nope"})
    assert nobody.status == 404
