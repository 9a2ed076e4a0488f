"""What the processes of a task ask and tell, over both faces."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct

from shipway_proto.determined.api.v1.master_pb2 import GetMasterRequest
from shipway_proto.determined.api.v1.trial_pb2 import (
    AllocationAllGatherRequest,
    AllocationPreemptionSignalRequest,
)
from tests.master.agents.standin import StandInAgent
from tests.master.asking import (
    create,
    get_task,
    read_log,
    wait_for_end,
    wait_for_state,
)
from tests.master.running import MasterUnderTest


class Run:
    """A running generic task and its own way to the master."""

    def __init__(self, master: MasterUnderTest, agent: StandInAgent, start: Mapping[str, Any]):
        self.master, self.agent, self.start = master, agent, start
        texts = start["Spec"]["RunSpec"]["ContainerConfig"]["Env"]
        variables = dict(text.split("=", 1) for text in texts)
        self.id = variables["DET_ALLOCATION_ID"]
        self.task_id = variables["DET_TASK_ID"]
        self.token = variables["DET_SESSION_TOKEN"]
        self.headers = {"Grpc-Metadata-x-allocation-token": f"Bearer {self.token}"}

    async def post(self, what: str, body: Any = None) -> Any:
        """Call as the task does."""
        return await self.master.call(
            "POST", f"/allocations/{self.id}/{what}", body, token=None, headers=self.headers
        )

    async def gather(self, rank: int, peers: int, *, uuid: str = "", **data: Any) -> Any:
        """Take part in an all-gather."""
        body = {
            "allocationId": self.id,
            "requestUuid": uuid or str(uuid4()),
            "numPeers": peers,
            "data": {"rank": rank, **data},
        }
        return await self.post("all_gather", body)


@pytest.fixture
async def run(master: MasterUnderTest) -> AsyncGenerator[Run]:
    """Run a task on an agent."""
    async with StandInAgent(master.url).connected() as agent:
        task_id = await create(master, "entrypoint: [x]\ndescription: mine\n")
        start = await agent.next_start()
        await agent.run(start)
        await wait_for_state(master, task_id, "RUNNING")
        yield Run(master, agent, start)


async def test_64_peers_gather_in_rank_order_and_integers_stay_integers(run: Run) -> None:
    answers = await asyncio.gather(
        *(run.gather(rank, 64, slots=1, nested={"half": 0.5}) for rank in reversed(range(64)))
    )
    expected = [{"rank": rank, "slots": 1, "nested": {"half": 0.5}} for rank in range(64)]
    for answer in answers:
        assert answer.status == 200
        assert answer.json == {"data": expected}
        assert b'"slots":1' in answer.body.replace(b" ", b"")
    shown = (await get_task(run.master, run.task_id))["allocations"][0]
    assert shown["isReady"] is True
    log = await read_log(run.master, run.task_id)
    assert log.count(f"Service of Generic Task {run.task_id} is available") == 1


async def test_a_second_gather_follows_the_first(run: Run) -> None:
    for turn in (1, 2):
        answers = await asyncio.gather(*(run.gather(rank, 2, turn=turn) for rank in (0, 1)))
        assert [one["turn"] for one in answers[0].json["data"]] == [turn, turn]


async def test_peers_that_hang_up_leave_the_gather(run: Run) -> None:
    async def hang_up(rank: int) -> None:
        call = asyncio.create_task(run.gather(rank, 3, who="gone"))
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.wait([call])

    await asyncio.gather(*(hang_up(rank) for rank in (0, 1)))
    answers = await asyncio.gather(*(run.gather(rank, 3, who="here") for rank in range(3)))
    assert [one["who"] for one in answers[0].json["data"]] == ["here"] * 3


async def test_the_same_request_again_gets_the_answer_and_the_older_one_an_error(
    run: Run,
) -> None:
    uuid = str(uuid4())
    older = asyncio.create_task(run.gather(0, 2, uuid=uuid))
    await asyncio.sleep(0.5)  # it has arrived by then
    newer = asyncio.create_task(run.gather(0, 2, uuid=uuid))
    refused = await older
    assert (refused.status, refused.error["reason"]) == (409, "Aborted")
    other = await run.gather(1, 2)
    assert (await newer).json == other.json
    again = await run.gather(0, 2, uuid=uuid)
    assert again.json == other.json, "an answer that got lost on its way is given again"


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"requestUuid": "no", "numPeers": 1}, "no UUID"),
        ({"requestUuid": str(uuid4()), "numPeers": 0}, "num_peers"),
        ({"requestUuid": str(uuid4())}, "num_peers"),
    ],
)
async def test_a_gather_that_cannot_be(run: Run, body: Any, word: str) -> None:
    answer = await run.post("all_gather", body)
    assert answer.status == 400
    assert word in answer.error["error"]


async def test_the_end_of_the_task_ends_the_waiting(run: Run) -> None:
    waiting = [
        asyncio.create_task(run.gather(0, 2)),
        asyncio.create_task(
            run.master.call("GET", f"/allocations/{run.id}/signals/preemption?timeout_seconds=60")
        ),
    ]
    await asyncio.sleep(0.5)  # they have arrived by then
    await run.agent.end(run.start)
    gathered, polled = await asyncio.gather(*waiting)
    assert (gathered.status, gathered.error["reason"]) == (409, "Aborted")
    assert polled.json == {"preempt": False}


async def test_a_gather_over_grpc(run: Run) -> None:
    metadata = (("x-allocation-token", f"Bearer {run.token}"),)

    def request(rank: int) -> AllocationAllGatherRequest:
        data = Struct()
        data.update({"rank": rank, "name": f"r{rank}"})
        return AllocationAllGatherRequest(
            allocation_id=run.id, request_uuid=str(uuid4()), num_peers=3, data=data
        )

    over_grpc = [
        run.master.stub.AllocationAllGather(request(rank), metadata=metadata) for rank in (2, 1)
    ]
    over_rest = asyncio.create_task(run.gather(0, 3, name="r0"))
    answers = [await call for call in over_grpc]
    assert [one["name"] for one in answers[0].data] == ["r0", "r1", "r2"]
    assert [one["name"] for one in (await over_rest).json["data"]] == ["r0", "r1", "r2"]


async def test_a_grpc_caller_that_hangs_up_leaves_the_gather(run: Run) -> None:
    metadata = (("x-allocation-token", f"Bearer {run.token}"),)
    request = AllocationAllGatherRequest(
        allocation_id=run.id, request_uuid=str(uuid4()), num_peers=2, data=Struct()
    )
    with pytest.raises(grpc.aio.AioRpcError):
        await run.master.stub.AllocationAllGather(request, metadata=metadata, timeout=0.2)
    # An answer on the same connection: the master has heard by then that the caller has left.
    await run.master.stub.GetMaster(GetMasterRequest())
    alone = asyncio.create_task(run.gather(0, 2))
    await asyncio.sleep(0.2)
    assert not alone.done()
    await run.gather(1, 2)
    await alone


async def test_preemption_polls(run: Run) -> None:
    path = f"/allocations/{run.id}/signals/preemption"
    at_once = await run.master.call("GET", f"{path}?timeout_seconds=0")
    assert at_once.json == {"preempt": False}
    began = time.monotonic()
    timed = await run.master.call("GET", f"{path}?timeout_seconds=1")
    assert timed.json == {"preempt": False}
    assert time.monotonic() - began > 0.9
    negative = await run.master.call("GET", f"{path}?timeout_seconds=-1")
    assert negative.status == 400
    unknown = await run.master.call(
        "GET", "/allocations/nope.1/signals/preemption?timeout_seconds=60"
    )
    assert unknown.json == {"preempt": False}
    metadata = (("x-allocation-token", f"Bearer {run.token}"),)
    waiting = asyncio.ensure_future(
        run.master.stub.AllocationPreemptionSignal(
            AllocationPreemptionSignalRequest(allocation_id=run.id, timeout_seconds=60),
            metadata=metadata,
        )
    )
    await asyncio.sleep(0.05)
    assert (await run.post("signals/pending_preemption")).status == 200
    assert (await waiting).preempt is True


async def test_rank_reports_of_a_task_on_an_agent(run: Run) -> None:
    for rank in (0, 1, 1):
        body = {"numPeers": 2, "rank": rank, "nodeName": "agent-a", "requestUuid": str(uuid4())}
        answer = await run.post("notify_container_running", body)
        assert (answer.status, answer.json) == (200, {"data": []})
    wrong = await run.post("notify_container_running", {"numPeers": 2, "rank": 2})
    assert wrong.status == 400
    counts = [line for line in await read_log(run.master, run.task_id) if "out of" in line]
    assert counts == [
        "1 out of 2 containers running on nodes agent-a",
        "2 out of 2 containers running on nodes agent-a",
    ]
    unknown = await run.master.call(
        "POST", "/allocations/nope.1/notify_container_running", {"numPeers": 1}
    )
    assert (unknown.status, unknown.json) == (200, {"data": []})


async def test_ready_and_waiting(run: Run) -> None:
    assert (await run.post("waiting")).status == 200
    shown = await wait_for_state(run.master, run.task_id, "WAITING")
    assert shown["isReady"] is False
    assert (await run.post("ready")).status == 200
    shown = await wait_for_state(run.master, run.task_id, "WAITING")
    assert shown["isReady"] is True


async def test_proxy_addresses_and_accelerators(run: Run) -> None:
    assert (await run.post("proxy_address", {"proxyAddress": "10.0.0.7"})).status == 200
    data = {
        "containerId": "c1",
        "allocationId": run.id,
        "nodeName": "agent-a",
        "taskId": run.task_id,
        "acceleratorType": "cuda",
        "acceleratorUuids": ["GPU-1", "GPU-2"],
    }
    for _ in range(2):
        body = {"allocationId": run.id, "acceleratorData": data}
        assert (await run.post("acceleratorData", body)).status == 200
    answer = await run.master.call("GET", f"/tasks/{run.task_id}/acceleratorData")
    assert answer.json == {"acceleratorData": [data | {"resourcePool": "default"}]}
    nothing = await run.post("acceleratorData", {"acceleratorData": {}})
    assert nothing.status == 400


async def test_allocations_are_found_live_and_ended(run: Run) -> None:
    path = f"/allocations/{run.id}"
    live = (await run.master.call("GET", path)).json["allocation"]
    assert (live["state"], live["slots"], live["taskId"]) == ("STATE_RUNNING", 1, run.task_id)
    await run.agent.end(run.start)
    await wait_for_end(run.master, run.task_id)
    ended = (await run.master.call("GET", path)).json["allocation"]
    assert (ended["state"], ended["statusCode"]) == ("STATE_TERMINATED", 0)
    late = await run.master.call("POST", f"{path}/ready")
    assert (late.status, late.error["reason"]) == (404, "NotFound")


async def test_strangers_may_not_speak_for_a_task(run: Run) -> None:
    for what in ("ready", "signals/pending_preemption", "signals/ack_preemption", "proxy_address"):
        refused = await run.master.call("POST", f"/allocations/{run.id}/{what}", {}, token="user")
        assert refused.status == 403


async def test_another_task_s_token_does_not_do(master: MasterUnderTest, run: Run) -> None:
    answer = await master.call("POST", "/commands", {"config": {"entrypoint": ["x"]}}, token="user")
    start = await run.agent.next_start()
    assert start["Container"]["description"] == f"cmd-{answer.json['command']['id']}"
    stranger = Run(master, run.agent, start)
    refused = await master.call(
        "POST", f"/allocations/{run.id}/ready", {}, token=None, headers=stranger.headers
    )
    assert refused.status == 403


async def test_a_rendezvous_of_one(run: Run) -> None:
    path = f"/allocations/{run.id}/resources/{run.start['Container']['id']}/rendezvous"
    answer = await run.master.call("GET", path, token=None, headers=run.headers)
    assert answer.json == {"rendezvousInfo": {"addresses": ["10.0.0.1"], "rank": 0, "slots": [1]}}
    unknown = await run.master.call("GET", f"/allocations/{run.id}/resources/x/rendezvous")
    assert (unknown.status, "stale" in unknown.error["error"]) == (404, True)
