"""An all-gather blocks through the relay until all ranks came, and outlives the master."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from shipway_launcher.relay import MasterAddress, Relay, RelaySettings
from tests.launcher.relay.conftest import eventually
from tests.launcher.relay.master import StandInMaster

ALLOCATION = "3f0c8d52-5d7a-4c1f-9e5b-222222222222.1"
PATH = f"/api/v1/allocations/{ALLOCATION}/all_gather"


def make_peer(rank: int, peers: int, **data: Any) -> dict[str, Any]:
    return {
        "allocationId": ALLOCATION,
        "requestUuid": f"00000000-0000-4000-8000-00000000000{rank}",
        "numPeers": peers,
        "data": {"rank": rank, **data},
    }


async def gather(client: aiohttp.ClientSession, relay: Relay, peer: dict[str, Any]) -> str:
    async with client.post(relay.url + PATH, json=peer) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.text()


async def test_every_peer_gets_the_data_of_all(
    master: StandInMaster, relay: Relay, client: aiohttp.ClientSession
) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(gather(client, relay, make_peer(rank, 4, slots=4)))
            for rank in range(4)
        ]
    texts = {task.result() for task in tasks}
    [text] = texts
    for rank in range(4):
        assert f'"rank": {rank}' in text


async def test_integers_stay_integers_at_any_depth(
    master: StandInMaster, relay: Relay, client: aiohttp.ClientSession
) -> None:
    data = {
        "slots": 2,
        "big": 2**53,
        "half": 0.5,
        "list": [1, 1.5, {"deep": -3}],
        "none": None,
        "yes": True,
        "text": "día",
        "empty": {},
    }
    peer = make_peer(0, 1, **data)
    async with client.post(relay.url + PATH, json=peer) as answer:
        assert await answer.json() == {"data": [{"rank": 0, **data}]}
        assert ".0" not in await answer.text()


async def test_a_gather_outlives_a_restart_of_the_master_as_the_same_peer(
    master: StandInMaster, relay: Relay, client: aiohttp.ClientSession
) -> None:
    async with asyncio.TaskGroup() as group:
        first = group.create_task(gather(client, relay, make_peer(0, 2)))
        await eventually(lambda: master.peers == 1)
        await master.stop()
        await eventually(lambda: master.peers == 0)
        await master.start()
        await eventually(lambda: master.peers == 1)
        second = await gather(client, relay, make_peer(1, 2))
    assert first.result() == second
    assert len({*master.gathers}) == 2
    assert master.gathers[0] == master.gathers[1]


async def test_a_gather_follows_the_master_to_another_address(
    master: StandInMaster, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    settings = RelaySettings.model_validate({"port": 0})
    address = MasterAddress(None, tmp_path / "master.json")
    await address.learn(master.url)
    async with StandInMaster() as other, Relay(settings, tmp_path / "spool", address) as relay:
        first = asyncio.ensure_future(gather(client, relay, make_peer(0, 2)))
        await eventually(lambda: master.peers == 1)
        await address.learn(other.url)
        second = asyncio.ensure_future(gather(client, relay, make_peer(1, 2)))
        assert await first == await second
    assert set(other.gathers) == {make_peer(rank, 2)["requestUuid"] for rank in (0, 1)}


async def test_a_caller_who_leaves_is_no_longer_a_peer(
    master: StandInMaster, relay: Relay, client: aiohttp.ClientSession
) -> None:
    call = asyncio.ensure_future(gather(client, relay, make_peer(0, 2)))
    await eventually(lambda: master.peers == 1)
    call.cancel()
    await eventually(lambda: master.peers == 0)


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 400, "InvalidArgument"),
        (grpc.StatusCode.NOT_FOUND, 404, "NotFound"),
        (grpc.StatusCode.INTERNAL, 500, "Internal"),
    ],
    ids=lambda value: str(value),
)
async def test_a_refusal_comes_back_in_the_masters_form(
    master: StandInMaster,
    relay: Relay,
    client: aiohttp.ClientSession,
    code: grpc.StatusCode,
    status: int,
    reason: str,
) -> None:
    master.refusals["AllocationAllGather"] = (code, "said so")
    async with client.post(relay.url + PATH, json=make_peer(0, 1)) as answer:
        assert answer.status == status
        assert (await answer.json())["error"] == {
            "code": code.value[0],
            "reason": reason,
            "error": "said so",
        }
