"""Task logs over both faces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import grpc
import pytest

from shipway_master.logbook import LogLine
from shipway_master.services.logs import format_message
from shipway_master.store.database import Database, opened
from shipway_proto.determined.api.v1.task_pb2 import PostTaskLogsRequest, TaskLogsRequest
from shipway_proto.determined.task.v1.task_pb2 import TaskLog
from tests.master.running import MasterUnderTest, until
from tests.master.tasks_in_store import add_task, end_task
from tests.proto.required import missing_required


@pytest.fixture
async def database(master: MasterUnderTest) -> AsyncGenerator[Database]:
    """Open the running master's database beside it, with a task `t` that runs."""
    async with opened(master.database_url) as database:
        await add_task(database, "t")
        yield database


def record(**changes: Any) -> dict[str, Any]:
    """Build a record as the log shipper sends it."""
    return {
        "task_id": "t",
        "allocation_id": "t.0",
        "agent_id": "a",
        "container_id": "0123456789",
        "rank_id": 1,
        "timestamp": "2026-01-02T03:04:05.678901+00:00",
        "level": "INFO",
        "source": "task",
        "stdtype": "stdout",
        "log": "hello\n",
        **changes,
    }


async def results(master: MasterUnderTest, query: str) -> list[Any]:
    """Read a whole stream of results."""
    answer = await master.call("GET", f"/tasks/t/logs?{query}")
    assert answer.status == 200
    return [json.loads(line)["result"] for line in answer.body.splitlines()]


async def test_a_shipped_line_reads_as_people_expect_it(
    master: MasterUnderTest, database: Database
) -> None:
    posted = await master.call("POST", "/task/logs", {"logs": [record()]})
    [line] = await results(master, "follow=false")

    assert (posted.status, posted.json) == (200, {})
    assert line.pop("id").isdecimal()
    assert line == {
        "timestamp": "2026-01-02T03:04:05.678901Z",
        "message": "[2026-01-02T03:04:05.678901Z] 01234567 [rank=1] || INFO: hello\n",
        "level": "LOG_LEVEL_INFO",
        "taskId": "t",
        "allocationId": "t.0",
        "agentId": "a",
        "containerId": "0123456789",
        "rankId": 1,
        "log": "hello\n",
        "source": "task",
        "stdtype": "stdout",
    }
    assert missing_required("determined.api.v1.TaskLogsResponse", {"id": "1", **line}) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (LogLine(task_id="t", text="x"), "|| x\n"),
        (LogLine(task_id="t", text="x\n", rank_id=0), "[rank=0] || x\n"),
        (LogLine(task_id="t", text="", container_id="short"), "short || \n"),
        (LogLine(task_id="t", text="x\n", level=5), "|| ERROR: x\n"),
        (LogLine(task_id="t", text="x\n", level=99), "|| x\n"),
    ],
)
def test_a_message_leaves_out_what_is_not_known(line: LogLine, message: str) -> None:
    assert format_message(line) == message


async def test_a_line_with_nothing_but_text_is_enough(
    master: MasterUnderTest, database: Database
) -> None:
    body = {"logs": [{"taskId": "t", "log": "x", "level": None, "rankId": None}]}
    assert (await master.call("POST", "/task/logs", body)).status == 200

    [line] = await results(master, "")

    assert line["level"] == "LOG_LEVEL_UNSPECIFIED"
    assert line["timestamp"].endswith("Z")
    assert "rankId" not in line


@pytest.mark.parametrize(
    ("logs", "problem"),
    [
        ([], "no logs"),
        ([record(id=1)], "leave it out"),
        ([record(), record(task_id="u")], "one task"),
        ([record(level="LOUD")], "logs[0].level"),
        ([record(timestamp="now")], "logs[0].timestamp"),
    ],
)
async def test_wrong_records_are_refused_whole(
    master: MasterUnderTest, database: Database, logs: list[Any], problem: str
) -> None:
    answer = await master.call("POST", "/task/logs", {"logs": logs})

    assert (answer.status, answer.error["code"]) == (400, 3)
    assert problem in answer.error["error"]
    assert await results(master, "") == []


async def test_lines_come_from_the_owner_of_the_task_alone(
    master: MasterUnderTest, database: Database
) -> None:
    answer = await master.call("POST", "/task/logs", {"logs": [record()]}, token="user")

    assert answer.status == 403
    assert await results(master, "") == []


async def test_an_unknown_task_has_no_logs(master: MasterUnderTest) -> None:
    posted = await master.call("POST", "/task/logs", {"logs": [record()]})
    read = await master.call("GET", "/tasks/t/logs?follow=true")
    fields = await master.call("GET", "/tasks/t/logs/fields")

    assert (posted.status, posted.error["error"]) == (404, "task 't' not found")
    assert (read.status, fields.status) == (404, 404)
    assert read.json == {
        "error": {
            "grpcCode": 5,
            "httpCode": 404,
            "message": "task 't' not found",
            "httpStatus": "Not Found",
            "details": [],
        }
    }


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("limit=-1", "Limit must be >= 0"),
        ("limit=1&follow=true", "Limit cannot be specified when following"),
        ("orderBy=ORDER_BY_DESC&follow=true", "logs cannot be followed in descending order"),
    ],
)
async def test_limits_that_make_no_sense_are_refused(
    master: MasterUnderTest, database: Database, query: str, message: str
) -> None:
    answer = await master.call("GET", f"/tasks/t/logs?{query}")

    assert (answer.status, answer.error["message"]) == (400, message)


async def test_head_and_tail(master: MasterUnderTest, database: Database) -> None:
    logs = [record(log=f"{number}\n") for number in range(700)]
    await master.call("POST", "/task/logs", {"logs": logs})

    head = await results(master, "limit=2")
    tail = await results(master, "limit=2&orderBy=ORDER_BY_DESC")

    assert [line["log"] for line in head] == ["0\n", "1\n"]
    assert [line["log"] for line in tail] == ["699\n", "698\n"]
    assert len(await results(master, "")) == 700


async def test_query_filters(master: MasterUnderTest, database: Database) -> None:
    logs = [record(), record(level="ERROR", rank_id=2), record(rank_id=3, stdtype="stderr")]
    await master.call("POST", "/task/logs", {"logs": logs})

    async def ranks(query: str) -> list[int]:
        return [line["rankId"] for line in await results(master, query)]

    assert await ranks("levels=LOG_LEVEL_WARNING&levels=LOG_LEVEL_ERROR") == [2]
    assert await ranks("rankIds=1&rankIds=3&stdtypes=stderr") == [3]
    assert await ranks("searchText=hell") == [1, 2, 3]
    assert await ranks("timestampAfter=2026-01-02T03%3A04%3A06Z") == []


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("h.l+o", 1), ("^H", 0), ("(?i)^H", 2), (r"\bhello\s*$", 1), ("(h+)+x", 0), ("día", 0)],
)
async def test_lines_can_be_searched_by_regular_expression(
    master: MasterUnderTest, database: Database, pattern: str, found: int
) -> None:
    await master.call("POST", "/task/logs", {"logs": [record(), record(log="h" * 5000 + "\n")]})

    lines = await results(master, f"searchText={quote(pattern)}&enableRegex=true")

    assert len(lines) == found


async def test_what_is_no_regular_expression_is_refused_with_the_reason(
    master: MasterUnderTest, database: Database
) -> None:
    answer = await master.call("GET", "/tasks/t/logs?searchText=(a&enableRegex=true")

    assert answer.status == 400
    assert "missing )" in answer.json["error"]["message"]


async def test_fields_of_the_lines(master: MasterUnderTest, database: Database) -> None:
    await master.call("POST", "/task/logs", {"logs": [record(), record(agent_id="b", rank_id=0)]})

    answer = await master.call("GET", "/tasks/t/logs/fields")

    assert json.loads(answer.body)["result"] == {
        "allocationIds": ["t.0"],
        "agentIds": ["a", "b"],
        "containerIds": ["0123456789"],
        "rankIds": [0, 1],
        "stdtypes": ["stdout"],
        "sources": ["task"],
    }


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
async def test_a_follower_reads_lines_as_they_come_and_then_the_end(
    master: MasterUnderTest, database: Database, encoding: str
) -> None:
    url = f"{master.url}/api/v1/tasks/t/logs?follow=true"
    headers = {**master.auth(), "Accept-Encoding": encoding}
    async with asyncio.timeout(60), master.session.get(url, headers=headers) as stream:
        assert stream.status == 200  # the headers are there before any line
        assert stream.headers.get("Content-Encoding", "identity") == encoding
        for number in range(3):
            posted = {"logs": [record(log=f"{number}\n")]}
            assert (await master.call("POST", "/task/logs", posted)).status == 200
            line = json.loads(await stream.content.readline())
            assert line["result"]["log"] == f"{number}\n"

        await end_task(database, "t")
        await master.call("POST", "/task/logs", {"logs": [record(log="last\n")]})

        assert json.loads(await stream.content.readline())["result"]["log"] == "last\n"
        assert await stream.content.read() == b""


async def test_a_follower_who_hangs_up_is_not_worked_for(
    master: MasterUnderTest, database: Database
) -> None:
    url = f"{master.url}/api/v1/tasks/t/logs?follow=true"
    async with master.session.get(url, headers=master.auth()) as stream:
        assert stream.status == 200
        assert len(_producers()) == 1

    await until(lambda: not _producers())


def _producers() -> list[str]:
    return [name for task in asyncio.all_tasks() if "producer" in (name := task.get_name())]


async def test_following_over_grpc(master: MasterUnderTest, database: Database) -> None:
    stream = master.stub.TaskLogs(
        TaskLogsRequest(task_id="t", follow=True), metadata=master.grpc_auth()
    )
    request = PostTaskLogsRequest(logs=[TaskLog(task_id="t", log="x\n")])
    await master.stub.PostTaskLogs(request, metadata=master.grpc_auth())

    first = await asyncio.wait_for(stream.read(), 60)
    assert first.log == "x\n"
    stream.cancel()


async def test_an_error_of_a_stream_over_grpc_has_its_code(master: MasterUnderTest) -> None:
    stream = master.stub.TaskLogs(TaskLogsRequest(task_id="t"), metadata=master.grpc_auth())

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "task 't' not found"


async def test_logs_of_a_task_that_ended_long_ago_end_at_once(
    master: MasterUnderTest, database: Database
) -> None:
    await add_task(database, "old", ended_at=datetime.now(UTC) - timedelta(days=1))

    answer = await asyncio.wait_for(master.call("GET", "/tasks/old/logs?follow=true"), 60)

    assert (answer.status, answer.body) == (200, b"")
