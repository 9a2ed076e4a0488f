"""All streams together: their limit, their age, and a folder that cannot be read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shipway_launcher.relay.address import MasterAddress
from shipway_launcher.relay.errors import BadRequest, SpoolFailed
from shipway_launcher.relay.master import MasterRpc
from shipway_launcher.relay.messages import task_logs_request
from shipway_launcher.relay.settings import GatherSettings, MasterTlsSettings, SpoolSettings
from shipway_launcher.relay.signals import put_allocation_signal
from shipway_launcher.relay.spool import Spool, folder_name
from shipway_launcher.relay.streamfile import Owner, is_asleep
from shipway_proto.determined.api.v1.task_pb2 import PostTaskLogsRequest
from shipway_proto.determined.api.v1.trial_pb2 import NotifyContainerRunningRequest
from tests.launcher.relay.conftest import RunRelay, eventually, make_environment
from tests.launcher.relay.master import TASK, TOKEN, StandInMaster
from tests.launcher.relay.test_delivery import LOGS, PREEMPTION, make_line, post


def make_owner(number: int) -> Owner:
    return Owner(
        allocation_id=f"task-{number}.1", metadata=(("x-allocation-token", f"Bearer {TOKEN}"),)
    )


def make_logs(text: str) -> PostTaskLogsRequest:
    return task_logs_request({"logs": [make_line(text)]})


@contextlib.asynccontextmanager
async def spooling(
    master: StandInMaster, folder: Path, *, awake_s: float = 600, **settings: Any
) -> AsyncIterator[Spool]:
    address = MasterAddress(master.url, folder / "master.json")
    async with (
        MasterRpc(address, MasterTlsSettings.model_validate({})) as rpc,
        Spool(
            folder / "spool",
            SpoolSettings.model_validate(settings),
            GatherSettings.model_validate({}),
            rpc,
            tidy_every_s=0.05,
            awake_s=awake_s,
        ) as spool,
    ):
        yield spool


def folders(folder: Path) -> list[Path]:
    return sorted((folder / "spool").iterdir())


async def test_the_largest_stream_gives_way_when_all_together_are_too_large(
    master: StandInMaster, tmp_path: Path
) -> None:
    await master.stop()
    async with spooling(master, tmp_path, total_mib=1, allocation_mib=2) as spool:
        small = await spool.stream(make_owner(1))
        large = await spool.stream(make_owner(2))
        await small.put_logs(make_logs("precious\n"))
        for number in range(180):
            await large.put_logs(make_logs(f"{number} {'x' * 10_000}\n"))
        await eventually(lambda: large.logs.backlog_bytes < 1 << 20)
        assert small.logs.backlog_lines == 1
        assert large.logs.backlog_lines == 180  # the lost ones are still to be told of
        await master.start()
        await eventually(lambda: master.lines and "missing here" in "".join(master.lines))
        await eventually(lambda: "precious\n" in master.lines)


async def test_a_silent_allocation_is_forgotten_with_a_word_about_its_loss(
    master: StandInMaster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await master.stop()
    async with spooling(master, tmp_path, keep_h=1) as spool:
        stream = await spool.stream(make_owner(1))
        await stream.put_logs(make_logs("never delivered\n"))
        stream.used_s -= 3601
        await eventually(lambda: not folders(tmp_path))
    assert "could not be delivered in time" in caplog.text


async def test_age_is_counted_through_restarts(master: StandInMaster, tmp_path: Path) -> None:
    async with spooling(master, tmp_path) as spool:
        await spool.stream(make_owner(1))
    make_older(folders(tmp_path)[0].iterdir(), 3601)
    async with spooling(master, tmp_path, keep_h=1):
        await eventually(lambda: not folders(tmp_path))


def make_older(paths: Iterable[Path], seconds: float) -> None:
    for path in paths:
        changed = path.stat().st_mtime - seconds
        os.utime(path, (changed, changed))


async def test_a_damaged_folder_is_named_and_stops_nothing_else(
    master: StandInMaster,
    run_relay: RunRelay,
    client: aiohttp.ClientSession,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    relay, stop = await run_relay()
    await post(client, relay.url + PREEMPTION)
    await stop()
    [folder] = folders(tmp_path)
    folder.joinpath("stream.json").write_text(json.dumps({"version": 9}))
    relay, _ = await run_relay()
    await relay.learn(make_environment(master.url, DET_ALLOCATION_ID=f"{TASK}.2"))
    await post(client, relay.url + LOGS, {"logs": [make_line("x\n", allocationId=f"{TASK}.2")]})
    await eventually(lambda: master.lines == ["x\n"])
    [record] = [r for r in caplog.records if "cannot take up" in r.message]
    assert record.__dict__["folder"] == str(folder)


async def test_no_room_on_disk_is_an_error_that_asks_for_patience(
    master: StandInMaster, tmp_path: Path
) -> None:
    async with spooling(master, tmp_path) as spool:
        (tmp_path / "spool").joinpath(folder_name(make_owner(1))).write_text("in the way")
        with pytest.raises(SpoolFailed, match="cannot make"):
            await spool.stream(make_owner(1))


@pytest.mark.parametrize("allocation_id", ["", "..", "../x.1", "a/b.1", "a\n.1", "x" * 300])
async def test_an_id_that_is_no_name_is_refused(
    master: StandInMaster, tmp_path: Path, allocation_id: str
) -> None:
    owner = Owner(allocation_id=allocation_id, metadata=())
    async with spooling(master, tmp_path) as spool:
        with pytest.raises(BadRequest):
            await spool.stream(owner)


async def test_many_streams_deliver_at_once(master: StandInMaster, tmp_path: Path) -> None:
    async with spooling(master, tmp_path) as spool, asyncio.TaskGroup() as group:

        async def put(number: int) -> None:
            stream = await spool.stream(make_owner(number))
            await stream.put_logs(make_logs(f"{number}\n"))

        for number in range(100):
            group.create_task(put(number))
        await eventually(lambda: len(master.lines) == 100)
    assert {int(line) for line in master.lines} == {*range(100)}


async def test_a_master_that_takes_nothing_is_not_waited_for_long(
    master: StandInMaster, tmp_path: Path
) -> None:
    master.hold.clear()
    async with spooling(master, tmp_path) as spool:
        stream = await spool.stream(make_owner(1))
        await stream.put_logs(make_logs("x\n"))
        assert not await spool.settle("task-1.1", limit_s=0.1)
        assert await spool.settle("task-2.1", limit_s=0.1)
        master.hold.set()
        assert await spool.settle("task-1.1", limit_s=30)
        assert master.lines == ["x\n"]


def are_asleep(folder: Path) -> bool:
    """Whether all streams are held on disk alone."""
    return all(is_asleep(path) for path in folders(folder))


async def test_what_sleeps_on_disk_is_still_known_when_it_wakes(
    master: StandInMaster, tmp_path: Path
) -> None:
    owner = make_owner(1)
    async with spooling(master, tmp_path, awake_s=0) as spool:
        await put_allocation_signal(spool, owner, "AllocationReady")
        await (await spool.stream(owner)).put_logs(make_logs("one\n"))
        await eventually(lambda: are_asleep(tmp_path))
        await put_allocation_signal(spool, owner, "AllocationReady")
        await (await spool.stream(owner)).put_logs(make_logs("two\n"))
        await eventually(lambda: len(master.lines) == 2 and are_asleep(tmp_path))
    async with spooling(master, tmp_path, awake_s=0) as spool:
        await put_allocation_signal(spool, owner, "AllocationReady")
        await (await spool.stream(owner)).put_logs(make_logs("three\n"))
        await eventually(lambda: len(master.lines) == 3)
    assert master.lines == ["one\n", "two\n", "three\n"]
    assert master.ready == [owner.allocation_id]


async def test_what_is_not_delivered_stays_awake(master: StandInMaster, tmp_path: Path) -> None:
    master.hold.clear()
    async with spooling(master, tmp_path, awake_s=0) as spool:
        await (await spool.stream(make_owner(1))).put_logs(make_logs("late\n"))
        await (await spool.stream(make_owner(2))).put_running(
            NotifyContainerRunningRequest(allocation_id="task-2.1", num_peers=2, rank=0)
        )
        await spool.stream(make_owner(3))
        await eventually(lambda: is_asleep(folders(tmp_path)[2]))
        assert not any(map(is_asleep, folders(tmp_path)[:2]))
        master.hold.set()
        await eventually(lambda: is_asleep(folders(tmp_path)[0]))
        assert not is_asleep(folders(tmp_path)[1])  # a rank is missing
    assert master.lines == ["late\n"]


async def test_what_sleeps_is_forgotten_when_it_is_old(
    master: StandInMaster, tmp_path: Path
) -> None:
    async with spooling(master, tmp_path, awake_s=0) as spool:
        await spool.stream(make_owner(1))
        await eventually(lambda: are_asleep(tmp_path))
    make_older(folders(tmp_path)[0].iterdir(), 3601)
    async with spooling(master, tmp_path, keep_h=1):
        await eventually(lambda: not folders(tmp_path))
