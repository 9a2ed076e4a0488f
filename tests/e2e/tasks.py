"""What the tests ask about a task, over the public REST API."""

from __future__ import annotations

import time
from typing import Any

from tests.lab.processes import LabError, wait_until
from tests.lab.shipway import Api

_LATE_S = 15
"""Lines that were on their way when a task ended may come so much later."""


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
    """Wait for a line with *text* in the task's log and return it.

    Raises:
        LabError: There was none in *limit_s* seconds, or the task has ended without; with its log.
    """
    return wait_for_lines(api, task_id, text, 1, limit_s=limit_s)[0]


def wait_for_lines(
    api: Api, task_id: str, text: str, count: int, *, limit_s: float = 60
) -> list[str]:
    """Wait for so many lines with *text* in the task's log and return them; see `wait_for_log`."""
    found: list[str] = []
    give_up_at: list[float] = []

    def are_there() -> bool:
        if not give_up_at and fetch_task(api, task_id).get("endTime"):
            give_up_at.append(time.monotonic() + _LATE_S)
        log = fetch_log(api, task_id)
        found[:] = [line for line in log if text in line]
        if len(found) < count and give_up_at and time.monotonic() > give_up_at[0]:
            told = "\n".join(log)
            raise LabError(f"{task_id} has ended with {len(found)} lines of {text!r}:\n{told}")
        return len(found) >= count

    wait_until(
        are_there,
        f"{count} lines of {text!r} in the log of {task_id}",
        limit_s=limit_s,
        interval_s=0.1,
        logs=lambda: "\n".join(fetch_log(api, task_id)),
    )
    return found


def wait_for_state(api: Api, task_id: str, *wanted: str, limit_s: float = 60) -> None:
    """Wait until the task's newest allocation is in one of the *wanted* states (STATE_…)."""
    wait_until(
        lambda: set(states(api, task_id)[:1]) & set(wanted),
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
        interval_s=0.1,
        logs=lambda: f"{states(api, task_id)}\n" + "\n".join(fetch_log(api, task_id)),
    )
    return fetch_task(api, task_id)


def fetch_command(api: Api, command_id: str) -> Any:
    """Return the command as the API gives it."""
    return api.call("GET", f"/api/v1/commands/{command_id}")["command"]
