"""The master about itself: its log, its log level, what it tells all users."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shipway_proto.determined.api.v1.master_pb2 import MasterLogsRequest
from tests.master.running import MasterUnderTest
from tests.proto.required import missing_required

log = logging.getLogger("tests.master")


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    """Give the root logger its level back."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.INFO)
    yield
    root.setLevel(before)


async def read_logs(master: MasterUnderTest, query: str) -> list[Any]:
    """Read the log entries of a stream that ends."""
    answer = await master.call("GET", f"/master/logs?{query}")
    assert answer.status == 200
    return [json.loads(line)["result"]["logEntry"] for line in answer.body.splitlines()]


async def test_the_last_lines_of_the_masters_log(master: MasterUnderTest) -> None:
    for number in range(5):
        log.warning("line %d", number)

    entries = await read_logs(master, "offset=-3")

    assert [entry["message"].split(": ", 1)[1] for entry in entries] == [
        "line 2",
        "line 3",
        "line 4",
    ]
    assert entries[0]["level"] == "LOG_LEVEL_WARNING"
    assert missing_required("determined.api.v1.MasterLogsResponse", {"logEntry": entries[0]}) == []
    [second] = await read_logs(master, f"offset={entries[1]['id']}&limit=1")
    assert second == entries[1]


async def test_a_follower_of_the_masters_log_gets_what_comes(master: MasterUnderTest) -> None:
    log.warning("old")
    stream = master.stub.MasterLogs(
        MasterLogsRequest(offset=-1, follow=True), metadata=master.grpc_auth()
    )
    async with asyncio.timeout(60):
        assert (await stream.read()).log_entry.message.endswith("old")
        await asyncio.to_thread(log.error, "new")
        assert (await stream.read()).log_entry.message.endswith("new")
    stream.cancel()


@pytest.mark.parametrize("query", ["limit=-1", "limit=1&follow=true"])
async def test_limits_that_cannot_be(master: MasterUnderTest, query: str) -> None:
    assert (await master.call("GET", f"/master/logs?{query}")).status == 400


async def test_the_log_level_can_be_changed_while_it_runs(master: MasterUnderTest) -> None:
    body = {"config": {"log": {"level": "LOG_LEVEL_ERROR"}}, "fieldMask": {"paths": ["log.level"]}}

    assert (await master.call("PATCH", "/master/config", body)).status == 200
    assert logging.getLogger().level == logging.ERROR
    body["fieldMask"] = {"paths": ["db"]}
    assert (await master.call("PATCH", "/master/config", body)).status == 400


async def test_a_message_is_told_to_all_users_while_it_is_time(master: MasterUnderTest) -> None:
    now = datetime.now(UTC)
    body = {"message": "down at 5", "startTime": now.isoformat(), "duration": "1h30m"}

    assert (await master.call("PUT", "/master/cluster_message", body)).status == 200
    told = (await master.call("GET", "/master", token=None)).json["clusterMessage"]
    assert told["message"] == "down at 5"
    span = datetime.fromisoformat(told["endTime"]) - datetime.fromisoformat(told["startTime"])
    assert span == timedelta(minutes=90)

    later = {**body, "startTime": (now + timedelta(hours=1)).isoformat()}
    assert (await master.call("PUT", "/master/cluster_message", later)).status == 200
    assert "clusterMessage" not in (await master.call("GET", "/master", token=None)).json
    stored = (await master.call("GET", "/master/cluster_message")).json
    assert stored["clusterMessage"]["message"] == "down at 5"

    assert (await master.call("DELETE", "/master/cluster_message")).status == 200
    assert "clusterMessage" not in (await master.call("GET", "/master/cluster_message")).json


@pytest.mark.parametrize(
    "changes",
    [
        {"message": ""},
        {"message": "x" * 251},
        {"duration": "soon"},
        {"duration": "1h", "endTime": "2999-01-01T00:00:00Z"},
        {"endTime": "2001-01-01T00:00:00Z"},
        {"startTime": "9999-12-31T00:00:00Z", "duration": "99999999h"},
    ],
)
async def test_a_message_that_cannot_be(master: MasterUnderTest, changes: dict[str, Any]) -> None:
    body = {"message": "m", "startTime": "2026-01-01T00:00:00Z", **changes}

    assert (await master.call("PUT", "/master/cluster_message", body)).status == 400


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/master/logs"),
        ("PATCH", "/master/config"),
        ("GET", "/master/cluster_message"),
        ("PUT", "/master/cluster_message"),
        ("DELETE", "/master/cluster_message"),
    ],
)
async def test_only_administrators_look_after_the_master(
    master: MasterUnderTest, verb: str, path: str
) -> None:
    assert (await master.call(verb, path, token="user")).status == 403
