"""An all-gather blocks at the relay until all ranks came; the master is told once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any
from uuid import uuid4

import aiohttp
import grpc
import grpc.aio
import pytest

from shipway_launcher.relay import Relay
from shipway_proto.determined.api.v1 import trial_pb2
from tests.launcher.relay.conftest import RunRelay, eventually
from tests.launcher.relay.master import ALLOCATION, TOKEN, StandInMaster
from tests.launcher.relay.test_delivery import LOGS, make_line, post

RPC = "/determined.api.v1.Determined/AllocationAllGather"
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
            for rank in (2, 0, 3, 1)
        ]
    [text] = {task.result() for task in tasks}
    assert json.loads(text) == {"data": [{"rank": rank, "slots": 4} for rank in range(4)]}
    await eventually(lambda: master.gathers)
    assert [gather.num_peers for gather in master.gathers] == [1]
    assert {gather.allocation_id for gather in master.gathers} == {ALLOCATION}


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


async def rpc_gather(relay: Relay, peer: dict[str, Any], token: str = TOKEN) -> list[Any]:
    request = trial_pb2.AllocationAllGatherRequest(
        allocation_id=peer["allocationId"],
        request_uuid=peer["requestUuid"],
        num_peers=peer["numPeers"],
    )
    request.data.update(peer["data"])
    async with grpc.aio.insecure_channel(relay.url.removeprefix("http://")) as channel:
        answer = await channel.unary_unary(RPC)(
            request.SerializeToString(), metadata=(("x-allocation-token", f"Bearer {token}"),)
        )
    data = trial_pb2.AllocationAllGatherResponse.FromString(answer).data
    return [dict(item) for item in data]


async def test_ranks_that_come_by_grpc_and_by_rest_meet(
    relay: Relay, client: aiohttp.ClientSession
) -> None:
    async with asyncio.TaskGroup() as group:
        by_rpc = group.create_task(rpc_gather(relay, make_peer(1, 2, text="x" * 100_000)))
        by_rest = group.create_task(gather(client, relay, make_peer(0, 2)))
    assert json.loads(by_rest.result())["data"] == by_rpc.result()
    assert [item["rank"] for item in by_rpc.result()] == [0, 1]


async def test_a_large_job_meets_by_grpc_however_suddenly_it_comes(relay: Relay) -> None:
    ranks = 2048
    address = relay.url.removeprefix("http://")
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with contextlib.AsyncExitStack() as stack:
        calls = [
            (
                await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options))
            ).unary_unary(RPC)
            for _ in range(8)
        ]

        async def take_part(rank: int) -> bytes:
            request = trial_pb2.AllocationAllGatherRequest(
                allocation_id=ALLOCATION, request_uuid=str(uuid4()), num_peers=ranks
            )
            request.data.update({"rank": rank})
            metadata = (("x-allocation-token", f"Bearer {TOKEN}"),)
            return await calls[rank % 8](request.SerializeToString(), metadata=metadata)

        [answer] = set(await asyncio.gather(*map(take_part, range(ranks))))
    data = trial_pb2.AllocationAllGatherResponse.FromString(answer).data
    assert [item["rank"] for item in data] == list(range(ranks))


async def test_the_ranks_meet_without_the_master_which_hears_of_it_later(
    master: StandInMaster, relay: Relay, client: aiohttp.ClientSession
) -> None:
    await master.stop()
    async with asyncio.TaskGroup() as group:
        for rank in range(2):
            group.create_task(gather(client, relay, make_peer(rank, 2)))
    assert master.gathers == []
    await master.start()
    await eventually(lambda: len(master.gathers) == 1)


async def test_a_call_repeated_under_its_id_counts_once_and_gets_the_same_answer(
    master: StandInMaster,
    run_relay: RunRelay,
    client: aiohttp.ClientSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", "shipway_launcher.relay.gathering")
    relay, stop = await run_relay()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(client.post(relay.url + PATH, json=make_peer(0, 2)))
        await eventually(lambda: waiting(caplog) == 1)
        again = group.create_task(gather(client, relay, make_peer(0, 2)))
        superseded = await first
        assert superseded.status == 409
        last = group.create_task(gather(client, relay, make_peer(1, 2)))
    assert again.result() == last.result()
    assert await gather(client, relay, make_peer(0, 2)) == last.result()
    await stop()
    relay, stop = await run_relay()
    assert await gather(client, relay, make_peer(1, 2)) == last.result()
    await eventually(lambda: master.gathers)
    await stop()
    assert len(master.gathers) == 1


async def test_a_second_gather_is_another_group(
    relay: Relay, client: aiohttp.ClientSession
) -> None:
    for round_number in range(2):
        peers = [make_peer(rank, 2, round=round_number) for rank in range(2)]
        for peer in peers:
            peer["requestUuid"] = (
                f"00000000-0000-4000-8000-0000000000{round_number}{peer['data']['rank']}"
            )
        answers = await asyncio.gather(*(gather(client, relay, peer) for peer in peers))
        assert [item["round"] for item in json.loads(answers[0])["data"]] == [round_number] * 2


async def test_a_rank_that_leaves_may_come_back_even_under_another_id(
    relay: Relay, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "shipway_launcher.relay.gathering")
    call = asyncio.ensure_future(gather(client, relay, make_peer(0, 2)))
    await eventually(lambda: waiting(caplog) == 1)
    call.cancel()
    await eventually(lambda: waiting(caplog) == 0)
    again = {**make_peer(0, 2), "requestUuid": "00000000-0000-4000-8000-0000000000ff"}
    answers = await asyncio.gather(
        gather(client, relay, again), gather(client, relay, make_peer(1, 2))
    )
    assert answers[0] == answers[1]


async def test_a_dead_rank_ends_the_wait_of_the_others_with_its_name(
    master: StandInMaster,
    run_relay: RunRelay,
    client: aiohttp.ClientSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", "shipway_launcher.relay.gathering")
    relay, _ = await run_relay(gather={"return_within_s": 0.1})
    notice = {"numPeers": 3, "rank": 0, "nodeName": "n17", "requestUuid": "x", "data": {}}
    path = f"/api/v1/allocations/{ALLOCATION}/notify_container_running"
    async with client.post(relay.url + path, json=notice) as answer:
        assert answer.status == 200
    call = asyncio.ensure_future(gather(client, relay, make_peer(0, 3)))
    await eventually(lambda: waiting(caplog) == 1)
    async with asyncio.TaskGroup() as group:
        other = group.create_task(client.post(relay.url + PATH, json=make_peer(1, 3)))
        await eventually(lambda: waiting(caplog) == 2)
        call.cancel()
    answer = other.result()
    assert answer.status == 409
    assert "rank 0 (n17) lost its connection" in (await answer.json())["error"]["error"]
    await eventually(lambda: [line for line in master.lines if "rank 0 (n17)" in line])


async def test_a_rank_whose_grpc_call_ends_has_left(
    relay: Relay, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "shipway_launcher.relay.gathering")
    call = asyncio.ensure_future(rpc_gather(relay, make_peer(0, 2)))
    await eventually(lambda: waiting(caplog) == 1)
    call.cancel()
    await eventually(lambda: waiting(caplog) == 0)


async def test_a_rank_that_comes_again_is_one_rank_though_its_first_call_still_waits(
    relay: Relay, client: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "shipway_launcher.relay.gathering")
    again = {**make_peer(0, 2), "requestUuid": "00000000-0000-4000-8000-0000000000ff"}
    async with asyncio.TaskGroup() as group:
        first = group.create_task(client.post(relay.url + PATH, json=make_peer(0, 2)))
        await eventually(lambda: waiting(caplog) == 1)
        second = group.create_task(gather(client, relay, again))
        assert (await first).status == 409
        third = group.create_task(gather(client, relay, make_peer(1, 2)))
    assert second.result() == third.result()
    assert [item["rank"] for item in json.loads(second.result())["data"]] == [0, 1]


async def test_ranks_that_never_come_end_the_wait_where_that_is_wanted(
    run_relay: RunRelay, client: aiohttp.ClientSession
) -> None:
    relay, _ = await run_relay(gather={"give_up_after_s": 0.1})
    async with client.post(relay.url + PATH, json=make_peer(1, 3)) as answer:
        assert answer.status == 409
        text = (await answer.json())["error"]["error"]
    assert "1 of 3 ranks have come within 0.1 s; missing: ranks 0, 2; the others wait no" in text


async def test_a_refused_token_ends_the_wait(
    master: StandInMaster, relay: Relay, client: aiohttp.ClientSession
) -> None:
    master.refusals["PostTaskLogs"] = (grpc.StatusCode.UNAUTHENTICATED, "the allocation is over")
    async with asyncio.TaskGroup() as group:
        call = group.create_task(client.post(relay.url + PATH, json=make_peer(0, 2)))
        await post(client, relay.url + LOGS, {"logs": [make_line("x\n")]})
    assert call.result().status == 401


async def test_late_ranks_are_named_in_the_tasks_log(
    master: StandInMaster, run_relay: RunRelay, client: aiohttp.ClientSession
) -> None:
    relay, _ = await run_relay(gather={"slow_after_s": 0.05, "running_within_s": 0.5})
    path = f"/api/v1/allocations/{ALLOCATION}/notify_container_running"

    async def run(rank: int) -> None:
        notice = {"numPeers": 3, "rank": rank, "nodeName": f"n{rank}", "data": {}}
        async with client.post(relay.url + path, json=notice) as answer:
            assert answer.status == 200

    await asyncio.gather(run(0), run(2))
    async with asyncio.TaskGroup() as group:
        call = group.create_task(client.post(relay.url + PATH, json=make_peer(1, 3)))
        await eventually(lambda: len(master.lines) == 2)
        call.cancel()
    text = "".join(master.lines)
    assert "2 of 3 containers run 0.5 s after the first; not yet running: rank 1\n" in text
    assert "1 of 3 ranks have come within 0.05 s; missing: ranks 0 (n0), 2 (n2)" in text
    await run(1)
    await eventually(lambda: len(master.lines) == 3)
    assert "rank 1 (n1) runs now" in master.lines[-1]
    assert "all ranks run" in master.lines[-1]


def nest(depth: int) -> list[Any]:
    """A list in a list in a list …"""
    nested: list[Any] = []
    for _ in range(depth):
        nested = [nested]
    return nested


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({"requestUuid": "nonsense"}, 400, "no UUID"),
        ({"numPeers": 0}, 400, "is not between"),
        ({"numPeers": "x"}, 400, "numPeers"),
        ({"numPeers": 2**31 - 1}, 400, "is not between"),
        ({"data": [1]}, 400, ""),
        ({"data": {"a": nest(60)}}, 400, "nested too deeply"),
        ({"data": {"a": nest(900)}}, 400, "nested too deeply"),
    ],
)
async def test_a_call_that_makes_no_sense_is_refused(
    relay: Relay, client: aiohttp.ClientSession, changes: dict[str, Any], status: int, text: str
) -> None:
    async with client.post(relay.url + PATH, json=make_peer(0, 1) | changes) as answer:
        assert answer.status == status
        assert text in (await answer.json())["error"]["error"]


def waiting(caplog: pytest.LogCaptureFixture) -> int:
    """How many ranks wait at the relay, by its log."""
    counts = [r.__dict__["waiting"] for r in caplog.records if "waiting" in r.__dict__]
    return counts[-1] if counts else 0
