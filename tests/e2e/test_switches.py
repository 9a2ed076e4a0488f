"""Agents and slots are switched off by the stock client: what becomes of the containers there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Site
from tests.e2e.tasks import fetch_log, fetch_task, wait_for_end, wait_for_log, wait_for_state
from tests.lab.processes import wait_until


@pytest.fixture(autouse=True)
def _all_on_again(site: Site) -> Iterator[None]:
    yield
    admin = site.master.login("admin")
    for command in admin.call("GET", "/api/v1/commands")["commands"]:
        if command["state"] != "STATE_TERMINATED":
            admin.call("POST", f"/api/v1/commands/{command['id']}/kill")
            wait_for_end(site.api, command["id"])
    admin.call("POST", "/api/v1/agents/agent-a/enable")


def launch(site: Site, script: str, *, slots: int = 1, shows: Path | None = None) -> str:
    """Start a command and return its task id."""
    mounts = [{"host_path": str(shows), "container_path": str(shows)}] if shows else []
    config = {
        "entrypoint": ["/bin/sh", "-c", script],
        "resources": {"slots": slots},
        "bind_mounts": mounts,
    }
    task_id: str = site.api.call("POST", "/api/v1/commands", {"config": config})["command"]["id"]
    return task_id


def sleeper(site: Site, *, slots: int = 1) -> str:
    """Start a command that would go on for long, and wait until it runs."""
    task_id = launch(site, "echo awake; exec sleep 1000", slots=slots)
    wait_for_log(site.api, task_id, "awake")
    return task_id


def agent_a(site: Site) -> dict[str, Any]:
    agent: dict[str, Any] = site.api.call("GET", "/api/v1/agents/agent-a")["agent"]
    return agent


def slot_of(site: Site, task_id: str) -> str:
    """Return the number of the slot that a task holds."""
    tasks = site.api.call("GET", "/api/v1/tasks")["allocationIdToSummary"]
    (resources,) = tasks[f"{task_id}.1"]["resources"]
    (slot,) = [
        slot["id"]
        for slot in agent_a(site)["slots"].values()
        if (slot["container"] or {}).get("id") == resources["containerId"]
    ]
    return str(slot)


def on_node(site: Site) -> set[str]:
    """Return the ids of the containers that the agent has."""
    return {file.stem for file in (site.folder / "agent-a-state/containers").glob("*.json")}


def check_killed(site: Site, task_id: str, why: str) -> None:
    """Check that a command was ended by a switch, and did not fail by itself."""
    wait_for_end(site.api, task_id)
    reason = fetch_task(site.api, task_id)["allocations"][0]["exitReason"]
    assert why in reason
    assert "failed" not in reason


def check_nothing_is_left(site: Site) -> None:
    """Check that no container is on the node any more, nor a process of one."""
    shims = site.folder / "agent-a-state/sandbox"
    wait_until(
        lambda: not on_node(site) and not list(shims.iterdir()), "the node is empty", limit_s=60
    )


def test_a_disabled_slot_ends_its_container_and_no_other(site: Site) -> None:
    first, second, aux = sleeper(site), sleeper(site), sleeper(site, slots=0)
    slot = slot_of(site, first)
    before = on_node(site)
    done = site.admin.run("slot", "disable", "agent-a", slot)
    assert done.stdout == f"Disabled slot {slot} of agent agent-a\n"
    check_killed(site, first, "slot disabled")
    wait_until(lambda: len(on_node(site)) == 2, "one container is gone", limit_s=60)
    assert on_node(site) < before
    for task_id in (second, aux):
        wait_for_state(site.api, task_id, "STATE_RUNNING")
    site.admin.run("slot", "enable", "agent-a", slot)
    third = sleeper(site)
    assert slot_of(site, third) == slot


def test_a_draining_slot_leaves_its_container_and_gets_no_other(site: Site, tmp_path: Path) -> None:
    script = f"echo awake; until [ -e {tmp_path}/go ]; do sleep 0.1; done; exit 3"
    first = launch(site, script, shows=tmp_path)
    wait_for_log(site.api, first, "awake")
    slot = slot_of(site, first)
    site.master.login("admin").call(
        "POST", f"/api/v1/agents/agent-a/slots/{slot}/disable", {"drain": True}
    )
    others = [sleeper(site) for _ in range(3)]
    (tmp_path / "go").touch()
    wait_for_end(site.api, first)
    assert "3" in fetch_task(site.api, first)["allocations"][0]["exitReason"]
    waits = launch(site, "true")
    wait_for_state(site.api, waits, "STATE_QUEUED")
    assert {slot_of(site, task_id) for task_id in others} == {"0", "1", "2", "3"} - {slot}
    site.admin.run("slot", "enable", "agent-a", slot)
    wait_for_end(site.api, waits)


def test_a_disabled_agent_ends_all_its_containers(site: Site) -> None:
    tasks = [sleeper(site, slots=2), sleeper(site), sleeper(site, slots=0)]
    site.admin.run("agent", "disable", "agent-a")
    for task_id in tasks:
        check_killed(site, task_id, "agent disabled")
    check_nothing_is_left(site)
    agent = agent_a(site)
    assert (agent["enabled"], agent["draining"]) == (False, False)
    assert [slot["enabled"] for slot in agent["slots"].values()] == [False] * 4
    waits = launch(site, "true", slots=0)
    wait_for_state(site.api, waits, "STATE_QUEUED")
    site.admin.run("agent", "enable", "agent-a")
    wait_for_end(site.api, waits)
    assert [slot["enabled"] for slot in agent_a(site)["slots"].values()] == [True] * 4


def test_a_draining_agent_lets_its_containers_end_by_themselves(site: Site, tmp_path: Path) -> None:
    script = f"echo awake; until [ -e {tmp_path}/go ]; do sleep 0.1; done; echo last; exit 3"
    tasks = [launch(site, script, slots=slots, shows=tmp_path) for slots in (1, 0)]
    for task_id in tasks:
        wait_for_log(site.api, task_id, "awake")
    site.admin.run("agent", "disable", "--drain", "agent-a")
    waits = [launch(site, "true", slots=slots) for slots in (1, 0)]
    (tmp_path / "go").touch()
    for task_id in tasks:
        wait_for_end(site.api, task_id)
        assert "3" in fetch_task(site.api, task_id)["allocations"][0]["exitReason"]
        assert "last" in fetch_log(site.api, task_id)
    check_nothing_is_left(site)
    agent = agent_a(site)
    assert (agent["enabled"], agent["draining"]) == (False, True)
    for task_id in waits:
        wait_for_state(site.api, task_id, "STATE_QUEUED")
    site.admin.run("agent", "enable", "agent-a")
    for task_id in waits:
        wait_for_end(site.api, task_id)
