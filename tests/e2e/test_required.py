"""What the stock client reads without a default is in the answers of a cluster at work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Site
from tests.e2e.tasks import wait_for_end, wait_for_state
from tests.proto.required import missing_required


@pytest.fixture(scope="module")
def command_id(site: Site) -> Iterator[str]:
    """A command that runs while the answers are looked at."""
    launched = site.api.call(
        "POST",
        "/api/v1/commands",
        {"config": {"entrypoint": ["sleep", "300"], "resources": {"slots": 1}}},
    )
    assert missing_required("determined.api.v1.LaunchCommandResponse", launched) == []
    command_id: str = launched["command"]["id"]
    wait_for_state(site.api, command_id, "STATE_RUNNING")
    yield command_id
    site.api.call("POST", f"/api/v1/commands/{command_id}/kill")
    wait_for_end(site.api, command_id)


@pytest.mark.parametrize(
    ("rpc", "path"),
    [
        ("GetAgents", "agents"),
        ("GetAgent", "agents/{agent}"),
        ("GetSlots", "agents/{agent}/slots"),
        ("GetSlot", "agents/{agent}/slots/0"),
        ("GetResourcePools", "resource-pools"),
        ("GetJobsV2", "job-queues-v2"),
        ("GetJobs", "job-queues"),
        ("GetCommands", "commands"),
        ("GetCommand", "commands/{command}"),
        ("GetTasks", "tasks"),
        ("GetTask", "tasks/{command}"),
        ("GetAllocation", "allocations/{command}.1"),
        ("GetWorkspaces", "workspaces"),
        ("GetMaster", "master"),
        ("GetMe", "me"),
        ("GetTaskAcceleratorData", "tasks/{command}/acceleratorData"),
    ],
)
def test_an_answer_has_its_required_keys(site: Site, command_id: str, rpc: str, path: str) -> None:
    agent = site.api.call("GET", "/api/v1/agents")["agents"][0]["id"]
    answer = site.api.call("GET", "/api/v1/" + path.format(agent=agent, command=command_id))
    assert answer, "an empty answer proves nothing"
    assert missing_required(f"determined.api.v1.{rpc}Response", answer) == []
