"""Use of the cluster: what runs took, within a span of time, by day and by month."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shipway_master.store.database import opened
from tests.master.running import MasterUnderTest
from tests.master.tasks_in_store import add_run
from tests.proto.required import missing_required

HOUR = timedelta(hours=1)
NOON = datetime(2020, 1, 30, 12, tzinfo=UTC)
EVENING = datetime(2020, 1, 31, 22, tzinfo=UTC)
DAILY, MONTHLY = (f"RESOURCE_ALLOCATION_AGGREGATION_PERIOD_{name}" for name in ("DAILY", "MONTHLY"))
JANUARY_30TH = "timestamp_after=2020-01-30T00:00:00Z&timestamp_before=2020-01-31T00:00:00Z"
MIDNIGHT = "timestamp_after=2020-01-31T23:00:00Z&timestamp_before=2020-02-01T00:30:00Z"


@pytest.fixture(autouse=True)
async def _used(master: MasterUnderTest) -> None:
    """Have used the cluster: over midnight, for half an hour, without slots, not at all, and now."""
    async with opened(master.database_url) as database:
        await add_run(database, "long.1", slots=2, began_at=EVENING, ended_at=EVENING + 3 * HOUR)
        await add_run(
            database, "short.1", slots=1, began_at=NOON, ended_at=NOON + HOUR / 2, pool="aux"
        )
        await add_run(database, "no-slot.1", slots=0, began_at=NOON, ended_at=NOON + HOUR)
        await add_run(database, "waiting.1", slots=4, began_at=None)
        await add_run(database, "running.1", slots=1, began_at=datetime.now(UTC) - HOUR)


async def fetch(master: MasterUnderTest, path: str) -> list[dict[str, str]]:
    """Fetch a table."""
    url = f"{master.url}/resources/allocation/{path}"
    async with master.session.get(url, headers=master.auth(master.user_token)) as response:
        text = await response.text()
        assert response.status == 200, text
        return list(csv.DictReader(io.StringIO(text)))


async def aggregate(master: MasterUnderTest, first: str, last: str, period: str) -> Any:
    """Fetch sums."""
    query = f"start_date={first}&end_date={last}&period={period}"
    answer = await master.call("GET", f"/resources/allocation/aggregated?{query}")
    if answer.status == 200:
        name = "determined.api.v1.ResourceAllocationAggregatedResponse"
        # Reserved since 2021, which the list of the contract has not noticed.
        missing = set(missing_required(name, answer.json))
        assert {path for path in missing if not path.endswith("byAgentLabel")} == set()
    return answer


async def test_days(master: MasterUnderTest) -> None:
    entries = (await aggregate(master, "2020-01-30", "2020-02-01", DAILY)).json["resourceEntries"]

    assert [(one["periodStart"], one["seconds"]) for one in entries] == [
        ("2020-01-30", 1800),
        ("2020-01-31", 4 * 3600),
        ("2020-02-01", 2 * 3600),
    ]
    assert entries[0]["byResourcePool"] == {"aux": 1800}
    assert entries[1]["byResourcePool"] == {"gpu": 4 * 3600}
    assert entries[1]["byUsername"] == {"admin": 4 * 3600}


async def test_months(master: MasterUnderTest) -> None:
    entries = (await aggregate(master, "2019-12", "2020-02", MONTHLY)).json["resourceEntries"]

    assert [(one["periodStart"], one["seconds"]) for one in entries] == [
        ("2019-12", 0),
        ("2020-01", 1800 + 4 * 3600),
        ("2020-02", 2 * 3600),
    ]


async def test_what_runs_counts_until_now(master: MasterUnderTest) -> None:
    year = datetime.now(UTC).year
    answer = await aggregate(master, f"{year - 1}-12-31", f"{year + 1}-01-01", DAILY)

    assert sum(one["seconds"] for one in answer.json["resourceEntries"]) == pytest.approx(
        3600, abs=120
    )


@pytest.mark.parametrize(
    ("first", "last", "period"),
    [
        ("2020-02-01", "2020-01-01", DAILY),
        ("2020-01", "2020-02", DAILY),
        ("2020-01-01", "2020-02-01", MONTHLY),
        ("0001-01-01", "9999-12-31", DAILY),
        ("9999-12-31", "9999-12-31", DAILY),
        ("", "", DAILY),
        ("2020-01-01", "2020-02-01", "RESOURCE_ALLOCATION_AGGREGATION_PERIOD_UNSPECIFIED"),
    ],
)
async def test_spans_that_are_none(
    master: MasterUnderTest, first: str, last: str, period: str
) -> None:
    assert (await aggregate(master, first, last, period)).status == 400


async def test_runs_are_cut_to_the_span(master: MasterUnderTest) -> None:
    query = MIDNIGHT.replace("timestamp_", "timestamp")  # both spellings are known
    for text in (MIDNIGHT, query.replace("after", "After").replace("before", "Before")):
        answer = await master.call("GET", f"/resources/allocation/raw?{text}")
        [entry] = answer.json["resourceEntries"]
        assert entry["startTime"] == "2020-01-31T23:00:00Z"
        assert entry["endTime"] == "2020-02-01T00:30:00Z"
        assert (entry["slots"], entry["seconds"], entry["kind"]) == (2, 2 * 5400, "command")


async def test_tables(master: MasterUnderTest) -> None:
    raw = await fetch(master, f"raw?{JANUARY_30TH}")
    allocations = await fetch(master, f"allocations-csv?{JANUARY_30TH}")
    sums = await fetch(master, "aggregated?start_date=2020-01-30&end_date=2020-01-30")

    assert [(one["slots"], one["seconds"], one["username"]) for one in raw] == [
        ("0", "0", "admin"),
        ("1", "1800", "admin"),
    ]
    assert allocations[1] == {
        "allocation_id": "short.1",
        "task_type": "COMMAND",
        "username": "admin",
        "workspace_name": "Uncategorized",
        "experiment_id": "",
        "slots": "1",
        "start_time": "2020-01-30T12:00:00.000000Z",
        "end_time": "2020-01-30T12:30:00.000000Z",
        "imagepulling_time": "",
        "slot_hours": "0.5",
        "resource_pool": "aux",
    }
    assert [(one["aggregation_type"], one["aggregation_key"], one["seconds"]) for one in sums] == [
        ("username", "admin", "1800"),
        ("resource_pool", "aux", "1800"),
        ("total", "total", "1800"),
    ]


@pytest.mark.parametrize("path", ["raw", "allocations-csv", "aggregated"])
async def test_tables_are_for_users_and_need_a_span(master: MasterUnderTest, path: str) -> None:
    url = f"{master.url}/resources/allocation/{path}"
    async with master.session.get(url) as response:
        assert response.status == 401
    async with master.session.get(url, headers=master.auth()) as response:
        assert response.status == 400
        assert "must be" in (await response.json())["message"]
