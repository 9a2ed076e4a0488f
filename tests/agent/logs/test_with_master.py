"""Our own agent and master, both killed while a task writes: the log has every line once."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.lab.processes import wait_until
from tests.lab.shipway import Agent, Api, Master

_writer = """
import sys, time
for number in range(int(sys.argv[1])):
    if number % 1000 == 0:
        sys.stdout.flush()
        time.sleep(0.05)
    sys.stdout.write(f"line {number}\\n")
"""
COUNT = 30_000


def output(api: Api, task_id: str) -> list[str]:
    lines = api.lines(f"/api/v1/tasks/{task_id}/logs?sources=task")
    return [line["log"].rstrip("\n") for line in lines]


def newest(api: Api, task_id: str) -> int:
    query = "sources=task&limit=1&orderBy=ORDER_BY_DESC"
    lines = list(api.lines(f"/api/v1/tasks/{task_id}/logs?{query}"))
    return int(lines[0]["log"].split()[1]) if lines else 0


def has_ended(api: Api, command_id: str) -> bool:
    command = api.call("GET", f"/api/v1/commands/{command_id}")["command"]
    return bool(command["state"] == "STATE_TERMINATED")


def test_no_line_is_lost_or_doubled_when_master_and_agent_are_killed(tmp_path: Path) -> None:
    master = Master(tmp_path)
    master.start()
    agent = Agent(tmp_path, master, agent_id="n1", config={"agent_reconnect_backoff": 0.5})
    try:
        agent.start()
        config = {"entrypoint": [sys.executable, "-c", _writer, str(COUNT)]}
        body = {"config": {**config, "resources": {"slots": 1}}}
        command_id = master.login().call("POST", "/api/v1/commands", body)["command"]["id"]
        for part, killed in enumerate((master, agent), start=1):
            api = master.login()
            wait_until(
                lambda api=api, part=part: newest(api, command_id) > part * COUNT // 5,
                "some lines of the task",
                limit_s=90,
                interval_s=0.2,
            )
            killed.kill()
            killed.start()
        api = master.login()
        wait_until(lambda: has_ended(api, command_id), "the end", limit_s=90, interval_s=0.2)
        assert output(api, command_id) == [f"line {n}" for n in range(COUNT)]
    finally:
        agent.stop()
        master.stop()
