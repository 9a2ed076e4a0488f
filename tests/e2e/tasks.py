"""What the tests ask about a task, over the public REST API."""

from __future__ import annotations

from typing import Any

from tests.lab.processes import wait_until
from tests.lab.shipway import Api


def fetch_task(api: Api, task_id: str) -> Any:
    """Return the task as the API gives it."""
    return api.call("GET", f"/api/v1/tasks/{task_id}")["task"]


def fetch_log(api: Api, task_id: str) -> list[str]:
    """Return the lines of the task's log so far, as the task or the master wrote them."""
    return [line["log"].rstrip("\n") for line in api.lines(f"/api/v1/tasks/{task_id}/logs")]


def states(api: Api, task_id: str) -> list[str]:
    """Return the states of the task's allocations, the newest first."""
    return [one["state"] for one in fetch_task(api, task_id)["allocations"]]


def wait_for_log(api: Api, task_id: str, text: str, *, limit_s: float = 60) -> str:
    """Wait for a line with *text* in the task's log and return it."""
    found: list[str] = []

    def is_there() -> bool:
        found[:] = [line for line in fetch_log(api, task_id) if text in line]
        return bool(found)

    wait_until(
        is_there,
        f"{text!r} in the log of {task_id}",
        limit_s=limit_s,
        interval_s=0.3,
        logs=lambda: "\n".join(fetch_log(api, task_id)),
    )
    return found[0]


def wait_for_state(api: Api, task_id: str, *wanted: str, limit_s: float = 60) -> None:
    """Wait until the task's newest allocation is in one of the *wanted* states (STATE_…)."""
    wait_until(
        lambda: states(api, task_id)[:1] and states(api, task_id)[0] in wanted,
        f"{task_id} in {' or '.join(wanted)}",
        limit_s=limit_s,
        interval_s=0.1,
        logs=lambda: f"{states(api, task_id)}\n" + "\n".join(fetch_log(api, task_id)),
    )


def wait_for_end(api: Api, task_id: str, *, limit_s: float = 60) -> Any:
    """Wait until the task has ended and return it."""
    wait_until(
        lambda: fetch_task(api, task_id).get("endTime"),
        f"the end of {task_id}",
        limit_s=limit_s,
        interval_s=0.2,
        logs=lambda: f"{states(api, task_id)}\n" + "\n".join(fetch_log(api, task_id)),
    )
    return fetch_task(api, task_id)


def fetch_command(api: Api, command_id: str) -> Any:
    """Return the command as the API gives it."""
    return api.call("GET", f"/api/v1/commands/{command_id}")["command"]
