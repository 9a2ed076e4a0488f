"""Notebooks that nobody uses are ended."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.lab.processes import free_ports
from tests.master.agents.standin import StandInAgent
from tests.master.asking import get_task, read_log, wait_for_state
from tests.master.running import MasterUnderTest, Prepared, master_running


async def start_notebook(
    master: MasterUnderTest, agent: StandInAgent, *, is_ready: bool = True, **config: Any
) -> tuple[str, str]:
    """Start a notebook whose container runs; return its id and the container's."""
    body = {"config": {"resources": {"slots": 0}, **config}}
    answer = await master.call("POST", "/notebooks", body)
    assert answer.status == 200, answer.body
    notebook_id: str = answer.json["notebook"]["id"]
    start = await agent.next_start()
    variables = start["Spec"]["RunSpec"]["ContainerConfig"]["Env"]
    [port] = [text.partition("=")[2] for text in variables if text.startswith("NOTEBOOK_PORT=")]
    await agent.run(start, ports={port: free_ports(1)[0]}, address="127.0.0.1")
    await wait_for_state(master, notebook_id, "RUNNING")
    if is_ready:
        await master.call("POST", f"/allocations/{notebook_id}.1/ready")
    return notebook_id, start["Container"]["id"]


async def test_what_nobody_uses_is_ended_and_the_log_says_why(master: MasterUnderTest) -> None:
    async def use() -> None:
        while True:
            await master.call("PUT", f"/notebooks/{reported}/report_idle", {"idle": False})
            async with master.session.get(f"{master.url}/proxy/{visited}/") as answer:
                assert answer.status == 502

    async with StandInAgent(master.url).connected() as agent, asyncio.TaskGroup() as group:
        reported, _ = await start_notebook(master, agent, idle_timeout="3s")
        visited, _ = await start_notebook(master, agent, idle_timeout="3s")
        using = group.create_task(use())
        starting, _ = await start_notebook(master, agent, idle_timeout="1s", is_ready=False)
        kept, _ = await start_notebook(master, agent, idle_timeout="0s")
        unheard, _ = await start_notebook(master, agent, idle_timeout="1s")
        unused, container = await start_notebook(master, agent, idle_timeout=3)
        await master.call("PUT", f"/notebooks/{unused}/report_idle", {"idle": True})

        assert await agent.next_kill() == container
        using.cancel()
        assert agent.kills.empty()
        for notebook_id in (reported, visited, starting, kept, unheard):
            task = await get_task(master, notebook_id)
            assert task["allocations"][0]["state"] == "STATE_RUNNING"
    reason = "nobody used it for 3s (idle_timeout, by default the master's notebook_timeout)"
    assert any(reason in line for line in await read_log(master, unused))


async def test_the_masters_setting_counts_for_those_that_say_nothing(
    prepared: Prepared, tmp_path: Path
) -> None:
    async with master_running(prepared, tmp_path / "data", notebook_timeout=5400) as master:
        shown: list[str] = []
        for config in ({}, {"idle_timeout": "45m"}):
            body = {"config": {"resources": {"slots": 0}, **config}, "preview": True}
            answer = await master.call("POST", "/notebooks", body)
            shown.append(answer.json["config"]["idle_timeout"])
    assert shown == ["1h30m0s", "45m0s"]


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"idle_timeout": "soon"}, "idle_timeout"),
        ({"idle_timeout": -1}, "idle_timeout"),
        ({"notebook_idle_type": "sleep"}, "notebook_idle_type"),
    ],
    ids=["no-duration", "negative", "no-type"],
)
async def test_wrong_idle_settings_are_refused(
    master: MasterUnderTest, wrong: dict[str, Any], key: str
) -> None:
    answer = await master.call("POST", "/notebooks", {"config": wrong})
    assert (answer.status, key in answer.error["error"]) == (400, True)


async def test_only_the_owner_says_whether_a_notebook_is_used(master: MasterUnderTest) -> None:
    made = await master.call("POST", "/notebooks", {"config": {"resources": {"slots": 0}}})
    path = f"/notebooks/{made.json['notebook']['id']}/report_idle"
    assert (await master.call("PUT", path, {"idle": False}, token="user")).status == 403
    assert (await master.call("PUT", path, {"idle": False})).status == 200
