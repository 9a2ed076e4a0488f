"""Who may ask for what lies beside the API."""

from __future__ import annotations

from typing import Final

import pytest

from shipway_master.auth import Authenticator
from shipway_master.store.database import opened
from tests.master.asking import create
from tests.master.running import USER_ID, MasterUnderTest

_SPAN: Final = "timestamp_after=2026-01-01T00:00:00Z&timestamp_before=2026-01-02T00:00:00Z"
_UUID: Final = "11111111-1111-4111-8111-111111111111"

OPEN: Final = ("/", "/det/anything", "/info", "/health", "/page/style.css", "/det/login")
OF_USERS: Final = (
    *("/prom/det-state-metrics", "/debug/prom/metrics", "/page/slot-problems", "/no/such/thing"),
    f"/resources/allocation/raw?{_SPAN}",
    f"/resources/allocation/allocations-csv?{_SPAN}",
    "/resources/allocation/aggregated?start_date=2026-01-01&end_date=2026-01-02&period=RESOURCE_ALLOCATION_AGGREGATION_PERIOD_DAILY",
    "/experiments/1/preview_gc?save_experiment_best=0&save_trial_best=0&save_trial_latest=0",
)
OF_TASKS_TOO: Final = (f"/checkpoints/{_UUID}",)
SHUT_OUT: Final = (401, 403)


async def ask(master: MasterUnderTest, path: str, token: str | None) -> int:
    """Ask for a path; return the status."""
    headers = {"Accept": "application/x-tar", **({} if token is None else master.auth(token))}
    async with master.session.get(
        master.url + path, headers=headers, allow_redirects=False
    ) as answer:
        return answer.status


async def make_tokens(master: MasterUnderTest) -> dict[str, str | None]:
    """Make tokens of a task that runs, of one that has ended, and of a user who was shut out."""
    runs = [f"{await create(master, 'entrypoint: [x]')}.1" for _ in range(2)]
    body = {"user": {"username": "gone", "active": True}}
    gone = (await master.call("POST", "/users", body)).json["user"]["id"]
    async with opened(master.database_url) as database:
        authenticator = Authenticator(database)
        tokens = [await authenticator.issue_allocation_token(run, owner_id=USER_ID) for run in runs]
        await authenticator.end_allocation_tokens(runs[1])
        shut_out, _ = await authenticator.start_session(gone)
    await master.call("PATCH", f"/users/{gone}", {"active": False})
    return {
        "nobody": None,
        "unknown": "made-up",
        "deactivated": shut_out,
        "ended task": tokens[1],
        "task": tokens[0],
        "user": master.user_token,
    }


@pytest.mark.parametrize("path", OPEN)
async def test_open_to_all(master: MasterUnderTest, path: str) -> None:
    assert await ask(master, path, None) in (200, 302)


async def test_the_rest_is_for_users_and_some_for_their_tasks(master: MasterUnderTest) -> None:
    tokens = await make_tokens(master)

    for path in (*OF_USERS, *OF_TASKS_TOO):
        answers = {who: await ask(master, path, token) for who, token in tokens.items()}
        shut_out = {who for who, status in answers.items() if status in SHUT_OUT}
        expected = {"nobody", "unknown", "deactivated", "ended task"}
        assert shut_out == (expected if path in OF_TASKS_TOO else {*expected, "task"}), path
        assert answers["user"] in (200, 404), path
