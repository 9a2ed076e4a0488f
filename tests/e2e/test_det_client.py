"""The stock `det` command, unmodified, against our master and an agent without a container engine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import SLOTS, Site
from tests.e2e.tasks import fetch_command, wait_for_end, wait_for_log, wait_for_state
from tests.lab.processes import wait_until

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture
def sleeper(site: Site) -> Iterator[str]:
    """The id of a command that runs on two slots until it is killed."""
    config = {
        "description": "a sleeper",
        "resources": {"slots": 2},
        "entrypoint": ["echo awake; exec sleep 1000"],
    }
    command_id: str = site.api.call("POST", "/api/v1/commands", {"config": config})["command"]["id"]
    wait_for_log(site.api, command_id, "awake")
    yield command_id
    site.api.call("POST", f"/api/v1/commands/{command_id}/kill")
    wait_for_end(site.api, command_id)


def slots_of(site: Site) -> list[dict[str, Any]]:
    """Return what `det slot list` says about agent-a."""
    listed: list[dict[str, Any]] = json.loads(site.det.run("slot", "list", "--json").stdout)
    return [slot for slot in listed if slot["agent_id"] == "agent-a"]


def agent_a(site: Site) -> dict[str, Any]:
    """Return what `det agent list` says about agent-a."""
    listed: list[dict[str, Any]] = json.loads(site.det.run("agent", "list", "--json").stdout)
    return next(agent for agent in listed if agent["id"] == "agent-a")


def test_user_whoami(site: Site) -> None:
    assert site.det.run("user", "whoami").stdout == "You are logged in as user 'determined'\n"


def test_a_wrong_password_is_refused(site: Site, det: Any) -> None:
    stranger = det(master=site.master.url, user="determined", password="not-it-1")
    done = stranger.run("user", "whoami", check=False)
    assert done.returncode == 1
    assert "Unauthenticated" in done.stdout + done.stderr


def test_master_info(site: Site) -> None:
    info = json.loads(site.det.run("master", "info", "--json").stdout)
    assert info["version"] == "0.38.1"
    assert UUID.fullmatch(info["clusterId"])
    assert UUID.fullmatch(info["masterId"])


def test_agent_list(site: Site) -> None:
    agent = agent_a(site)
    assert agent["num_slots"] == SLOTS
    assert agent["resource_pools"] == "default"
    assert agent["enabled"] is True
    assert agent["draining"] is False
    table = site.det.run("agent", "list").stdout
    assert re.search(
        rf"^\s*agent-a\s*\|.*\|\s*{SLOTS}\s*\|\s*0\s*\| default\s*\| True", table, re.MULTILINE
    )


def test_slot_list(site: Site) -> None:
    slots = slots_of(site)
    assert [slot["slot_id"] for slot in slots] == [str(number) for number in range(SLOTS)]
    assert {slot["allocation_id"] for slot in slots} == {"FREE"}
    assert {slot["enabled"] for slot in slots} == {True}


def test_slot_list_names_the_task_that_holds_a_slot(site: Site, sleeper: str) -> None:
    held = [slot for slot in slots_of(site) if slot["allocation_id"] != "FREE"]
    assert [slot["allocation_id"] for slot in held] == [f"{sleeper}.1"] * 2
    assert [slot["task_name"] for slot in held] == ["a sleeper"] * 2


def test_a_disabled_slot_is_not_used_until_it_is_enabled(site: Site) -> None:
    try:
        done = site.admin.run("slot", "disable", "agent-a", "3")
        assert done.stdout == "Disabled slot 3 of agent agent-a\n"
        assert [slot["enabled"] for slot in slots_of(site)] == [True, True, True, False]
        waiting = site.det.run(
            "cmd", "run", "--detach", "--config", f"resources.slots={SLOTS}", "true"
        ).stdout.strip()
        assert site.api.call("GET", f"/api/v1/tasks/{waiting}")["task"].get("endTime") is None
        assert fetch_command(site.api, waiting)["state"] == "STATE_QUEUED"
    finally:
        done = site.admin.run("slot", "enable", "agent-a", "3")
    assert done.stdout == "Enabled slot 3 of agent agent-a\n"
    assert [slot["enabled"] for slot in slots_of(site)] == [True] * SLOTS
    wait_for_end(site.api, waiting)


def test_a_drained_agent_finishes_its_task_and_takes_no_new_one(site: Site, sleeper: str) -> None:
    try:
        done = site.admin.run("agent", "disable", "--drain", "agent-a")
        assert "Disabled agent agent-a." in done.stderr
        assert "Tasks still in progress on draining nodes." in done.stdout
        assert sleeper in done.stdout
        agent = agent_a(site)
        assert (agent["enabled"], agent["draining"]) == (False, True)
        waiting = site.det.run("cmd", "run", "--detach", "true").stdout.strip()
        assert fetch_command(site.api, sleeper)["state"] == "STATE_RUNNING"
        assert fetch_command(site.api, waiting)["state"] == "STATE_QUEUED"
    finally:
        done = site.admin.run("agent", "enable", "agent-a")
    assert "Enabled agent agent-a." in done.stderr
    wait_for_end(site.api, waiting)
    assert agent_a(site)["enabled"] is True


def test_disabling_an_agent_ends_its_task(site: Site, sleeper: str) -> None:
    try:
        site.admin.run("agent", "disable", "agent-a")
        wait_for_end(site.api, sleeper)
    finally:
        site.admin.run("agent", "enable", "agent-a")


def test_cmd_run_prints_the_output_and_ends(site: Site) -> None:
    done = site.det.run("cmd", "run", "echo hello; echo oh >&2; hostname")
    lines = done.stdout.splitlines()
    assert any(line.endswith("hello") for line in lines)
    assert any(line.endswith("oh") for line in lines)
    assert "Task log stream ended" in done.stdout
    assert done.stderr == ""


def test_cmd_run_keeps_arguments_as_they_are(site: Site) -> None:
    words = ["a b", "$HOME", "'", '"', "*", "é", "-n", ""]
    done = site.det.run("cmd", "run", "printf", "<%s>", *words)
    assert "".join(f"<{word}>" for word in words) in done.stdout


def test_cmd_run_brings_the_context_along(site: Site, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/data.txt").write_text("from the context\n")
    script = tmp_path / "run.sh"
    script.write_text("#!/bin/sh\ncat folder/data.txt\n")
    script.chmod(0o755)
    done = site.det.run("cmd", "run", "--context", str(tmp_path), "./run.sh")
    assert "from the context" in done.stdout


def test_cmd_list_tells_how_each_command_ended(site: Site) -> None:
    good = site.det.run("cmd", "run", "--detach", "true").stdout.strip()
    bad = site.det.run("cmd", "run", "--detach", "exit 7").stdout.strip()
    wait_for_end(site.api, good)
    wait_for_end(site.api, bad)
    listed = {one["id"]: one for one in json.loads(site.det.run("cmd", "list", "--json").stdout)}
    assert listed[good]["state"] == "TERMINATED"
    assert listed[bad]["state"] == "TERMINATED"
    assert "7" in listed[bad]["exitStatus"]
    assert "7" not in listed[good]["exitStatus"]
    assert listed[good]["username"] == "determined"
    assert listed[good]["resourcePool"] == "default"
    assert listed[good]["workspaceName"] == "Uncategorized"
    assert bad in site.det.run("cmd", "list").stdout


def test_cmd_logs_follows_until_the_command_ends(site: Site, tmp_path: Path) -> None:
    go = tmp_path / "go"
    command_id = site.det.run(
        *("cmd", "run", "--detach", "--volume", f"{tmp_path}:{tmp_path}"),
        f"echo first; until [ -e {go} ]; do sleep 0.1; done; echo last",
    ).stdout.strip()
    output = tmp_path / "followed"
    follower = site.det.start("cmd", "logs", "-f", command_id, output=output)
    try:
        wait_until(lambda: "first" in output.read_text(), "the first line", limit_s=60)
        assert follower.poll() is None
        assert "last" not in output.read_text()
        go.touch()
        assert follower.wait(timeout=60) == 0
    finally:
        go.touch()
        follower.kill()
        follower.wait()
    assert "last" in output.read_text()
    assert output.read_text().count("first") == 1


def test_cmd_kill_ends_a_command(site: Site) -> None:
    command_id = site.det.run("cmd", "run", "--detach", "exec sleep 1000").stdout.strip()
    wait_for_state(site.api, command_id, "STATE_RUNNING")
    done = site.det.run("cmd", "kill", command_id)
    assert command_id in done.stdout + done.stderr
    wait_for_end(site.api, command_id)
    assert fetch_command(site.api, command_id)["state"] == "STATE_TERMINATED"
    assert {slot["allocation_id"] for slot in slots_of(site)} == {"FREE"}


def test_cmd_kill_ends_a_command_that_still_waits(site: Site, sleeper: str) -> None:
    waiting = site.det.run(
        "cmd", "run", "--detach", "--config", f"resources.slots={SLOTS}", "true"
    ).stdout.strip()
    site.det.run("cmd", "kill", waiting)
    wait_for_end(site.api, waiting)
    assert fetch_command(site.api, sleeper)["state"] == "STATE_RUNNING"


def test_task_list(site: Site, sleeper: str) -> None:
    tasks = json.loads(site.det.run("task", "list", "--json").stdout)
    task = tasks[f"{sleeper}.1"]
    assert task["taskId"] == sleeper
    assert task["name"] == "a sleeper"
    assert task["slotsNeeded"] == 2
    assert task["resourcePool"] == "default"
    assert list(task["resources"][0]["agentDevices"]) == ["agent-a"]
    table = site.det.run("task", "list").stdout
    assert re.search(rf"{sleeper}\s*\|.*\| a sleeper\s*\|\s*2\s*\|.*agent-a", table)


def test_task_logs_with_filters(site: Site) -> None:
    command_id = site.det.run(
        "cmd", "run", "--detach", "for i in 1 2 3 4 5; do echo line-$i; done; echo wrong >&2"
    ).stdout.strip()
    wait_for_end(site.api, command_id)

    texts = site.det.run_several(
        ["task", "logs", command_id],
        ["task", "logs", "--stdtype", "stderr", command_id],
        ["task", "logs", "--source", "task", "--stdtype", "stdout", "--tail", "2", command_id],
        ["task", "logs", "--json", "--stdtype", "stderr", command_id],
    )
    everything, errors, last, _ = (re.findall(r"line-\d|wrong", text) for _, text in texts)

    assert sorted(everything) == ["line-1", "line-2", "line-3", "line-4", "line-5", "wrong"]
    assert [one for one in everything if one != "wrong"] == [f"line-{n}" for n in range(1, 6)]
    assert errors == ["wrong"]
    assert len(last) == 2
    assert '"agentId": "agent-a"' in texts[-1][1]


def test_job_list(site: Site, sleeper: str) -> None:
    jobs = json.loads(site.det.run("job", "list", "--json").stdout)["jobs"]
    job = next(job for job in jobs if job["entityId"] == sleeper)
    assert job["type"] == "TYPE_COMMAND"
    assert job["name"] == "a sleeper"
    assert (job["allocatedSlots"], job["requestedSlots"]) == (2, 2)
    assert job["summary"]["state"] == "STATE_SCHEDULED"
    table = site.det.run("job", "list").stdout
    assert re.search(r"TYPE_COMMAND\s*\| a sleeper\s*\|.*\| 2/2\s*\| STATE_SCHEDULED", table)
