"""What may have arrived is not sent again before the master was asked."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.launcher.relay.conftest import RunRelay, eventually, make_environment
from tests.launcher.relay.master import ALLOCATION, TASK, TRIAL, StandInMaster
from tests.launcher.relay.test_delivery import (
    LOGS,
    METRICS,
    PREEMPTION,
    RUNNING,
    make_line,
    make_notice,
    post,
)

NEWEST = {
    "limit": "1",
    "orderBy": "ORDER_BY_DESC",
    "allocationIds": ALLOCATION,
    "containerIds": "[cont=0]",
    "sources": "task",
}


def make_batch(second: int, name: str = "gpu_util") -> dict[str, Any]:
    labels = {"trialId": TRIAL, "name": name, "agentId": "n1", "metricType": 1}
    times = [f"2026-01-02T03:04:{second:02}.5Z", f"2026-01-02T03:04:{second + 1:02}Z"]
    return {"labels": labels, "values": [0.5, 1.5], "batches": [0, 0], "timestamps": times}


async def newest(client: aiohttp.ClientSession, url: str) -> Any:
    async with client.get(f"{url}/api/v1/tasks/{TASK}/logs", params=NEWEST) as answer:
        return json.loads(await answer.text()) if answer.status == 200 else None


async def test_lines_whose_answer_was_lost_come_once(
    master: StandInMaster, run_relay: RunRelay, client: aiohttp.ClientSession
) -> None:
    relay, _ = await run_relay()
    await post(client, relay.url + LOGS, {"logs": [make_line("zero\n")]})
    await eventually(lambda: master.lines)
    master.lose_answers = 2
    for text in ("one\n", "two\n", "two\n"):  # all have the same time
        await post(client, relay.url + LOGS, {"logs": [make_line(text)]})
    await eventually(lambda: len(master.lines) == 4)
    await post(client, relay.url + LOGS, {"logs": [make_line("three\n")]})
    await eventually(lambda: master.lines[-1] == "three\n")
    assert master.lines == ["zero\n", "one\n", "two\n", "two\n", "three\n"]
    assert master.questions > 0


async def test_readings_whose_answer_was_lost_come_once(
    master: StandInMaster, run_relay: RunRelay, client: aiohttp.ClientSession
) -> None:
    relay, _ = await run_relay()
    await post(client, relay.url + METRICS, {"batches": [make_batch(0)]})
    await eventually(lambda: master.readings)
    master.lose_answers = 1
    await post(client, relay.url + METRICS, {"batches": [make_batch(2), make_batch(2, "cpu")]})
    await post(client, relay.url + METRICS, {"batches": [make_batch(4)]})
    await eventually(lambda: len(master.readings) == 4)
    assert [(b.labels.name, b.timestamps[0].seconds % 60) for b in master.readings] == [
        ("gpu_util", 0),
        ("gpu_util", 2),
        ("cpu", 2),
        ("gpu_util", 4),
    ]


async def test_readings_that_are_no_numbers_are_taken_in_any_spelling(
    master: StandInMaster, run_relay: RunRelay, client: aiohttp.ClientSession
) -> None:
    relay, _ = await run_relay()
    values = ["NaN", "Nan", float("nan"), "Infinity", float("-inf"), 1]
    await post(client, relay.url + METRICS, {"batches": [{**make_batch(0), "values": values}]})
    await eventually(lambda: master.readings)
    [batch] = master.readings
    shown = [str(value) for value in batch.values]
    assert shown == ["nan", "nan", "nan", "inf", "-inf", "1.0"]


async def test_readings_are_kept_while_the_master_is_away(
    master: StandInMaster, run_relay: RunRelay, client: aiohttp.ClientSession
) -> None:
    relay, stop = await run_relay()
    await master.stop()
    for second in (0, 2):
        await post(client, relay.url + METRICS, {"batches": [make_batch(second)]})
    await stop()
    await master.start()
    await run_relay()
    await eventually(lambda: len(master.readings) == 2)
    assert [list(batch.values) for batch in master.readings] == [[0.5, 1.5]] * 2


async def test_a_sender_is_told_how_far_it_came(
    master: StandInMaster, run_relay: RunRelay, client: aiohttp.ClientSession
) -> None:
    relay, stop = await run_relay()
    await master.stop()
    late = "2026-01-02T03:04:06.000001Z"
    await post(
        client, relay.url + LOGS, {"logs": [make_line("a\n"), make_line("b\n", timestamp=late)]}
    )
    found = await newest(client, relay.url)
    assert (found["result"]["log"], found["result"]["timestamp"]) == ("b\n", late)
    await stop()
    relay, _ = await run_relay()
    assert (await newest(client, relay.url))["result"]["log"] == "b\n"


RUN_RELAY = """
import asyncio, json, sys
from pathlib import Path
from shipway_launcher.relay import MasterAddress, Relay, RelaySettings

async def main(port, master, folder, environment):
    settings = RelaySettings(port=int(port), master=master)
    address = MasterAddress(master, Path(folder) / "master.json")
    async with Relay(settings, Path(folder) / "spool", address) as relay:
        await relay.learn(json.loads(environment))
        print(relay.url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_relay_loses_nothing_that_it_answered_for(
    master: StandInMaster, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    await master.stop()
    process, url = await start_relay(master, tmp_path)
    try:
        await post(client, url + LOGS, {"logs": [make_line("one\n"), make_line("two\n")]})
        await post(client, url + PREEMPTION)
        await post(client, url + RUNNING, make_notice(1))
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await master.start()
        process, url = await start_relay(master, tmp_path)
        await eventually(lambda: master.lines and master.preemptions and master.running)
        await post(client, url + PREEMPTION)
        await post(client, url + LOGS, {"logs": [make_line("three\n")]})
        await eventually(lambda: len(master.lines) >= 3)
    finally:
        process.kill()
        await process.wait()
    assert master.lines == ["one\n", "two\n", "three\n"]
    assert master.preemptions == [ALLOCATION]
    assert len(master.running) == 1


async def start_relay(
    master: StandInMaster, folder: Path
) -> tuple[asyncio.subprocess.Process, str]:
    argv = [sys.executable, "-c", RUN_RELAY, "0", master.url, str(folder)]
    argv.append(json.dumps(make_environment(master.url)))
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(60):
        return process, (await process.stdout.readline()).decode().strip()


@pytest.mark.parametrize("path", [LOGS, METRICS])
async def test_a_relay_that_dies_before_its_note_repeats_nothing(
    master: StandInMaster, client: aiohttp.ClientSession, tmp_path: Path, path: str
) -> None:
    process, url = await start_relay(master, tmp_path)
    bodies = {LOGS: {"logs": [make_line("one\n")]}, METRICS: {"batches": [make_batch(0)]}}
    stored: list[Any] = master.batches if path == LOGS else master.readings
    try:
        master.hold_answers.clear()
        await post(client, url + path, bodies[path])
        await eventually(lambda: stored)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        master.hold_answers.set()
        process, url = await start_relay(master, tmp_path)
        later = {LOGS: {"logs": [make_line("two\n")]}, METRICS: {"batches": [make_batch(2)]}}
        await post(client, url + path, later[path])
        await eventually(lambda: len(stored) == 2)
    finally:
        process.kill()
        await process.wait()
    assert master.lines == (["one\n", "two\n"] if path == LOGS else [])
    assert len(stored) == 2


async def test_a_jobs_end_waits_for_its_last_words(
    master: StandInMaster, run_relay: RunRelay, client: aiohttp.ClientSession
) -> None:
    relay, _ = await run_relay()
    await relay.settle(ALLOCATION)  # nothing was ever said
    master.hold.clear()
    await post(client, relay.url + LOGS, {"logs": [make_line("last words\n")]})
    await post(client, relay.url + METRICS, {"batches": [make_batch(0)]})
    async with asyncio.TaskGroup() as group:
        settled = group.create_task(relay.settle(ALLOCATION))
        await relay.settle(f"{TASK}.2")  # others need not wait
        assert not settled.done()
        master.hold.set()
    assert master.lines == ["last words\n"]
    assert len(master.readings) == 1


async def test_a_jobs_end_does_not_wait_for_a_master_that_is_not_there(
    master: StandInMaster, run_relay: RunRelay, client: aiohttp.ClientSession
) -> None:
    relay, _ = await run_relay()
    await master.stop()
    await post(client, relay.url + LOGS, {"logs": [make_line("later\n")]})
    async with asyncio.timeout(60):
        await relay.settle(ALLOCATION)
    await master.start()
    await relay.settle(ALLOCATION)
    assert master.lines == ["later\n"]
