"""The master's own process ends and comes back while a real agent runs a task."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.folders import new_folder
from tests.lab.processes import wait_until
from tests.lab.shipway import Agent, Api, Master

LINES = 250


@pytest.fixture
def folder() -> Iterator[Path]:
    """Get a folder with a short name: sockets lie in it."""
    made = new_folder("restart")
    yield made
    shutil.rmtree(made)


def read_numbers(api: Api, task_id: str) -> list[int]:
    """Read the numbers that a task printed."""
    lines = [entry["log"].strip() for entry in api.lines(f"/api/v1/tasks/{task_id}/logs")]
    return [int(line) for line in lines if line.isdigit()]


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_no_line_is_lost_and_none_comes_twice(folder: Path, how: str) -> None:
    master = Master(folder)
    agent = Agent(folder, master, agent_id="agent-a")
    master.start()
    try:
        agent.start()
        api = master.login()
        script = f"i=0; while [ $i -lt {LINES} ]; do echo $i; i=$((i+1)); sleep 0.01; done; exit 6"
        config: dict[str, Any] = {"entrypoint": [script], "resources": {"slots": 2}}
        task_id = api.call("POST", "/api/v1/commands", {"config": config})["command"]["id"]
        wait_until(lambda: len(read_numbers(api, task_id)) > 50, "some lines", limit_s=60)
        getattr(master, how)()
        master.start()
        api = master.login()

        def has_ended() -> bool:
            return bool(api.call("GET", f"/api/v1/tasks/{task_id}")["task"].get("endTime"))

        wait_until(has_ended, "the task's end", limit_s=60, logs=master.tail)
        run = api.call("GET", f"/api/v1/tasks/{task_id}")["task"]["allocations"][0]
        assert run["statusCode"] == 6, agent.tail()
        assert read_numbers(api, task_id) == list(range(LINES))
    finally:
        agent.stop()
        master.stop()
