"""A daemon crashes and comes back: tasks go on, and their output is there once."""

from __future__ import annotations

import re
from pathlib import Path

from tests.e2e.conftest import Site
from tests.e2e.tasks import fetch_command, fetch_log, wait_for_end, wait_for_log, wait_for_state


def start_waiting(site: Site, folder: Path) -> str:
    """Start a command that prints, waits for the file `go` in *folder*, prints again, exits 4."""
    command_id = site.det.run(
        *("cmd", "run", "--detach", "--volume", f"{folder}:{folder}"),
        f"echo before; until [ -e {folder}/go ]; do sleep 0.1; done; echo after; exit 4",
    ).stdout.strip()
    wait_for_log(site.api, command_id, "before")
    wait_for_state(site.api, command_id, "STATE_RUNNING")
    return command_id


def check_end(site: Site, command_id: str) -> None:
    """Check that the command ended by itself and that its output is there, once."""
    wait_for_end(site.api, command_id, limit_s=90)
    wait_for_log(site.api, command_id, "after")
    log = fetch_log(site.api, command_id)
    assert [line for line in log if re.fullmatch("before|after", line)] == ["before", "after"]
    assert "4" in fetch_command(site.api, command_id)["exitStatus"]


def test_a_command_outlives_its_agent(site: Site, tmp_path: Path) -> None:
    command_id = start_waiting(site, tmp_path)
    site.agent.kill()
    (tmp_path / "go").touch()
    site.agent.start()
    check_end(site, command_id)


def test_a_command_on_an_agent_outlives_the_master(site: Site, tmp_path: Path) -> None:
    command_id = start_waiting(site, tmp_path)
    site.master.kill()
    (tmp_path / "go").touch()
    site.master.start()
    check_end(site, command_id)


def test_who_is_logged_in_stays_so(site: Site) -> None:
    site.det.run("user", "whoami")
    site.master.kill()
    site.master.start()
    site.agent.wait_until(lambda: _slot_states(site) == [True] * 4, "the agent is back")
    assert site.api.call("GET", "/api/v1/me")["user"]["username"] == "determined"
    assert "determined" in site.det.run("user", "whoami").stdout


def test_a_disabled_slot_stays_disabled(site: Site) -> None:
    site.admin.run("slot", "disable", "agent-a", "1")
    try:
        site.master.kill()
        site.master.start()
        site.agent.wait_until(
            lambda: _slot_states(site) == [True, False, True, True], "slot 1 alone is disabled"
        )
    finally:
        site.admin.run("slot", "enable", "agent-a", "1")


def _slot_states(site: Site) -> list[bool] | None:
    agents = site.api.call("GET", "/api/v1/agents")["agents"]
    slots = next((agent["slots"] for agent in agents if agent["id"] == "agent-a"), None)
    return [slot["enabled"] for _, slot in sorted(slots.items())] if slots else None
