"""What jobs post to the relay reaches the master once, in order, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web
from yarl import URL

from shipway_launcher.relay import Relay
from shipway_proto.determined.log.v1 import log_pb2
from tests.launcher.relay.conftest import RunRelay, eventually, make_environment
from tests.launcher.relay.master import ALLOCATION, AUTH, TASK, TOKEN, StandInMaster

LOGS = "/api/v1/task/logs"
PREEMPTION = f"/api/v1/allocations/{ALLOCATION}/signals/pending_preemption"
METRICS = "/api/v1/trials/profiler/metrics"
RUNNING = f"/api/v1/allocations/{ALLOCATION}/notify_container_running"


def make_line(text: str, **changes: Any) -> dict[str, Any]:
    return {
        "taskId": TASK,
        "allocationId": ALLOCATION,
        "agentId": "n1",
        "containerId": "[cont=0]",
        "rankId": 0,
        "timestamp": "2026-01-02T03:04:05.678901+00:00",
        "stdtype": "stdout",
        "source": "task",
        "log": text,
        **changes,
    }


def make_notice(rank: int) -> dict[str, Any]:
    return {
        "allocationId": ALLOCATION,
        "requestUuid": f"00000000-0000-4000-8000-00000000000{rank}",
        "numPeers": 2,
        "rank": rank,
        "nodeName": f"n{rank}",
        "data": {},
    }


async def post(client: aiohttp.ClientSession, url: str, body: Any = None) -> Any:
    async with client.post(url, json=body) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def test_a_log_line_arrives_with_all_its_fields(
    master: StandInMaster, relay: Relay, client: aiohttp.ClientSession
) -> None:
    line = make_line("día 😀\n", level="LOG_LEVEL_INFO", unknown=1, id=None)
    assert await post(client, relay.url + LOGS, {"logs": [line]}) == {}
    await eventually(lambda: master.batches)
    [[log]] = master.batches
    assert (log.task_id, log.allocation_id, log.agent_id) == (TASK, ALLOCATION, "n1")
    assert (log.container_id, log.rank_id, log.log) == ("[cont=0]", 0, "día 😀\n")
    assert (log.source, log.stdtype, log.level) == ("task", "stdout", log_pb2.LOG_LEVEL_INFO)
    assert log.timestamp.ToJsonString() == "2026-01-02T03:04:05.678901Z"
    assert not log.HasField("id")


async def test_the_stock_shippers_body_is_understood(
    master: StandInMaster, relay: Relay, client: aiohttp.ClientSession
) -> None:
    record = {"task_id": TASK, "allocation_id": ALLOCATION, "log": "x\n", "level": "ERROR"}
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    body = json.dumps({"logs": [record]})
    async with client.post(relay.url + LOGS, data=body, headers=headers) as answer:
        assert answer.status == 200
    await eventually(lambda: master.batches)
    assert master.batches[0][0].level == log_pb2.LOG_LEVEL_ERROR


async def test_half_a_surrogate_pair_is_replaced_not_fatal(
    master: StandInMaster, relay: Relay, client: aiohttp.ClientSession
) -> None:
    body = json.dumps({"logs": [make_line("a\udcffb\n")]}).encode()
    async with client.post(relay.url + LOGS, data=body) as answer:
        assert answer.status == 200
    await eventually(lambda: master.lines == ["a?b\n"])


async def test_lines_keep_their_order(
    master: StandInMaster, relay: Relay, client: aiohttp.ClientSession
) -> None:
    expected = [f"line {number}\n" for number in range(3000)]
    for start in range(0, 3000, 30):
        lines = [make_line(text) for text in expected[start : start + 30]]
        await post(client, relay.url + LOGS, {"logs": lines})
    await eventually(lambda: len(master.lines) >= 3000)
    assert master.lines == expected


async def test_jobs_are_answered_while_the_master_is_away(
    master: StandInMaster, relay: Relay, client: aiohttp.ClientSession
) -> None:
    await master.stop()
    assert await post(client, relay.url + LOGS, {"logs": [make_line("kept\n")]}) == {}
    assert await post(client, relay.url + PREEMPTION) == {}
    assert await post(client, relay.url + RUNNING, make_notice(0)) == {"data": []}
    await master.start()
    await eventually(lambda: master.lines and master.preemptions and master.running)
    assert master.lines == ["kept\n"]


async def test_pending_preemption_is_told_once_however_many_ranks_hear_it(
    master: StandInMaster, relay: Relay, client: aiohttp.ClientSession
) -> None:
    await asyncio.gather(*(post(client, relay.url + PREEMPTION) for _ in range(20)))
    await post(client, relay.url + LOGS, {"logs": [make_line("after\n")]})
    await eventually(lambda: master.lines and master.preemptions)
    assert master.preemptions == [ALLOCATION]


async def test_a_forged_token_neither_hides_nor_repeats_the_real_signal(
    master: StandInMaster, relay: Relay, client: aiohttp.ClientSession
) -> None:
    forged = {"Grpc-Metadata-x-allocation-token": "Bearer forged"}
    async with client.post(relay.url + PREEMPTION, headers=forged) as answer:
        assert answer.status == 404  # the master's own answer: it is his to judge
    await post(client, relay.url + PREEMPTION)
    await eventually(lambda: master.preemptions)
    assert master.preemptions == [ALLOCATION]


async def test_container_running_is_told_once_per_rank(
    master: StandInMaster, relay: Relay, client: aiohttp.ClientSession
) -> None:
    for rank in (0, 1, 0, 1):
        await post(client, relay.url + RUNNING, make_notice(rank))
    await eventually(lambda: len(master.running) == 2)
    assert [(r.rank, r.node_name, r.num_peers) for r in master.running] == [
        (0, "n0", 2),
        (1, "n1", 2),
    ]
    assert {r.allocation_id for r in master.running} == {ALLOCATION}


async def test_a_signal_passes_a_backlog_of_logs(
    master: StandInMaster, relay: Relay, client: aiohttp.ClientSession
) -> None:
    master.refusals["PostTaskLogs"] = (grpc.StatusCode.UNAVAILABLE, "busy")
    await post(client, relay.url + LOGS, {"logs": [make_line("waits\n")]})
    await post(client, relay.url + PREEMPTION)
    await eventually(lambda: master.preemptions)
    assert master.lines == []
    master.refusals.clear()
    await eventually(lambda: master.lines == ["waits\n"])


async def test_a_refused_line_is_dropped_and_the_others_arrive(
    master: StandInMaster,
    relay: Relay,
    client: aiohttp.ClientSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    master.refuse_log = lambda log: "bad" in log.log
    master.hold.clear()
    for text in ("one\n", "bad\n", "two\n"):
        await post(client, relay.url + LOGS, {"logs": [make_line(text)]})
    master.hold.set()
    await eventually(lambda: len(master.lines) == 2)
    assert master.lines == ["one\n", "two\n"]
    [dropped] = [r for r in caplog.records if "refused a message" in r.message]
    assert "a bad line" in dropped.reason


async def test_a_dead_token_ends_the_stream_with_the_masters_words(
    master: StandInMaster, relay: Relay, client: aiohttp.ClientSession
) -> None:
    dead = {"Grpc-Metadata-x-allocation-token": "Bearer dead"}
    await relay.learn(make_environment(master.url, DET_SESSION_TOKEN="dead"))
    body = {"logs": [make_line("late\n")]}

    async def status() -> tuple[int, str]:
        async with client.post(relay.url + LOGS, json=body, headers=dead) as answer:
            return answer.status, await answer.text()

    assert (await status())[0] == 200
    async with asyncio.timeout(60):
        while (await status())[0] == 200:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    code, text = await status()
    assert code == 401
    assert "invalid credentials" in text
    assert master.lines == []


async def test_lines_over_the_limit_leave_a_gap_mark(
    master: StandInMaster, run_relay: RunRelay, client: aiohttp.ClientSession
) -> None:
    relay, _ = await run_relay(spool={"allocation_mib": 1})
    await master.stop()
    count = 400
    for number in range(count):
        await post(client, relay.url + LOGS, {"logs": [make_line(f"{number} {'x' * 9000}\n")]})
    await master.start()
    await eventually(lambda: master.lines and master.lines[-1].startswith(f"{count - 1} "))
    [mark] = [line for line in master.lines if "missing here" in line]
    place = master.lines.index(mark)
    numbers = [int(line.split()[0]) for line in master.lines if line != mark]
    lost = int(mark.removeprefix("[").split()[0])
    assert lost > 0
    assert numbers == [*range(place), *range(place + lost, count)]


async def test_what_one_relay_kept_the_next_one_delivers_once(
    master: StandInMaster, run_relay: RunRelay, client: aiohttp.ClientSession
) -> None:
    relay, stop = await run_relay()
    await post(client, relay.url + LOGS, {"logs": [make_line("first\n")]})
    await post(client, relay.url + PREEMPTION)
    await eventually(lambda: master.lines and master.preemptions)
    await master.stop()
    await post(client, relay.url + LOGS, {"logs": [make_line("second\n")]})
    await post(client, relay.url + RUNNING, make_notice(0))
    await stop()
    await master.start()
    relay, stop = await run_relay()
    await post(client, relay.url + PREEMPTION)
    await post(client, relay.url + RUNNING, make_notice(0))
    await post(client, relay.url + LOGS, {"logs": [make_line("third\n")]})
    await eventually(lambda: len(master.lines) == 3)
    await stop()
    assert master.lines == ["first\n", "second\n", "third\n"]
    assert len(master.running) == 1
    assert master.preemptions == [ALLOCATION]


async def test_stopping_notes_what_is_being_delivered(
    master: StandInMaster, run_relay: RunRelay, client: aiohttp.ClientSession
) -> None:
    relay, stop = await run_relay()
    await post(client, relay.url + LOGS, {"logs": [make_line("warm\n")]})
    await eventually(lambda: master.lines)
    master.hold.clear()
    await post(client, relay.url + LOGS, {"logs": [make_line("under way\n")]})
    async with asyncio.TaskGroup() as group:
        group.create_task(stop())
        await asyncio.sleep(0.2)  # the delivery has begun, and waits in the master
        master.hold.set()
    relay, stop = await run_relay()
    await post(client, relay.url + LOGS, {"logs": [make_line("last\n")]})
    await eventually(lambda: master.lines[-1] == "last\n")
    assert master.lines == ["warm\n", "under way\n", "last\n"]


async def test_the_spool_is_for_the_launchers_user_alone(
    relay: Relay, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    await post(client, relay.url + LOGS, {"logs": [make_line("x\n")]})
    folders, files = _modes(tmp_path / "spool")
    assert folders == {0o700}
    assert files == {0o600}


def _modes(root: Path) -> tuple[set[int], set[int]]:
    paths = [root, *root.rglob("*")]
    return (
        {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir()},
        {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_file()},
    )


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        (LOGS, b"{nope", 400, "not JSON"),
        (LOGS, b"[]", 400, "must be a JSON object"),
        (LOGS, b"{}", 400, "at least one line"),
        (LOGS, b'{"logs":[]}', 400, "at least one line"),
        (LOGS, b'{"logs":[7]}', 400, "logs[0]"),
        (LOGS, b'{"logs":[{"log":"x"}]}', 400, "logs[0].taskId"),
        (LOGS, b'{"logs":[{"taskId":"a","log":7}]}', 400, "logs[0].log"),
        (LOGS, b'{"logs":[{"taskId":"a","rankId":"x"}]}', 400, "logs[0].rankId"),
        (LOGS, b'{"logs":[{"taskId":"a","level":"LOUD"}]}', 400, "LOUD"),
        (LOGS, b'{"logs":[{"taskId":"a","timestamp":"noon"}]}', 400, "logs[0].timestamp"),
        (LOGS, b'{"logs":[{"taskId":"a","level":99999999999}]}', 400, "logs[0].level"),
        (LOGS, b'{"logs":[{"taskId":"a","rankId":"%s"}]}' % (b"9" * 5000), 400, "logs[0].rankId"),
        (
            LOGS,
            b'{"logs":[{"taskId":"a","timestamp":"9999-12-31T23:59:59-23:59"}]}',
            400,
            "logs[0].timestamp",
        ),
        (LOGS, b"[" * 100_000, 400, "not JSON"),
        (LOGS, b'{"logs":[{"taskId":"a"},{"taskId":"b"}]}', 400, "same task"),
        (RUNNING, b'{"rank":"x"}', 400, "rank"),
        (RUNNING, b'{"rank":-1,"numPeers":2}', 400, "no rank -1"),
        (RUNNING, b'{"rank":2,"numPeers":2}', 400, "no rank 2"),
        (RUNNING, b'{"rank":0,"numPeers":2147483647}', 400, "no rank 0"),
        (METRICS, b'{"batches":7}', 400, "batches"),
        (METRICS, b'{"batches":[{"values":["x"]}]}', 400, "values"),
        (METRICS, b'{"batches":[{"timestamps":["noon"]}]}', 400, "timestamp"),
    ],
)
async def test_bad_input_gets_the_masters_kind_of_answer(
    relay: Relay,
    client: aiohttp.ClientSession,
    path: str,
    body: bytes,
    status: int,
    text: str,
) -> None:
    async with client.post(relay.url + path, data=body) as answer:
        assert answer.status == status
        error = (await answer.json())["error"]
    assert (error["code"], error["reason"]) == (3, "InvalidArgument")
    assert text in error["error"]


OTHER = "/api/v1/allocations/other.1"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (LOGS, {"logs": [make_line("x", taskId="other")]}),
        (LOGS, {"logs": [make_line("x"), make_line("x", allocationId="other.1")]}),
        (OTHER + "/signals/pending_preemption", None),
        (OTHER + "/notify_container_running", make_notice(0)),
        (OTHER + "/all_gather", {"requestUuid": "0" * 32, "numPeers": 1, "data": {}}),
        (OTHER + "/signals/ack_preemption", None),
        (OTHER + "/proxy_address", {"proxyAddress": "10.0.0.1"}),
        ("//api/v1//allocations/other.1/proxy_address", {"proxyAddress": "10.0.0.1"}),
        ("/%61pi/v1/allocations/other.1/proxy_address", {"proxyAddress": "10.0.0.1"}),
        ("/api/v1/allocations/%6fther.1/proxy_address", {"proxyAddress": "10.0.0.1"}),
        (METRICS, {"batches": [{"labels": {"trialId": 8}}]}),
    ],
)
async def test_a_job_speaks_for_itself_alone(
    master: StandInMaster,
    relay: Relay,
    client: aiohttp.ClientSession,
    path: str,
    body: dict[str, Any] | None,
) -> None:
    async with client.post(URL(relay.url + path, encoded=True), json=body) as answer:
        assert answer.status == 403, await answer.text()
        error = (await answer.json())["error"]
    assert (error["code"], error["reason"]) == (7, "PermissionDenied")
    assert "the token is not of" in error["error"]


@pytest.mark.parametrize("header", [{}, {"Grpc-Metadata-x-allocation-token": TOKEN}])
async def test_a_call_without_a_bearer_token_is_the_masters_to_refuse(
    master: StandInMaster, relay: Relay, header: dict[str, str]
) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.json_response({"error": {"code": 16}}, status=401)

    master.answer = refuse
    async with (
        aiohttp.ClientSession(headers=header) as client,
        client.post(relay.url + LOGS, json={"logs": [make_line("x")]}) as answer,
    ):
        assert answer.status == 401
        assert await answer.json() == {"error": {"code": 16}}
    assert master.lines == []


async def test_the_token_may_come_in_any_letter_case_and_carrier(
    master: StandInMaster, relay: Relay
) -> None:
    header = {"GRPC-METADATA-X-ALLOCATION-TOKEN": AUTH["Grpc-Metadata-x-allocation-token"]}
    async with aiohttp.ClientSession(headers=header) as client:
        await post(client, relay.url + LOGS + "/", {"logs": [make_line("x\n")]})
    await eventually(lambda: master.lines == ["x\n"])
