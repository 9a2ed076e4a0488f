"""The relay's gRPC face: its own calls, and the way through to the master."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest

from shipway_launcher.relay import Relay
from shipway_proto.determined.api.v1 import task_pb2, trial_pb2
from shipway_proto.determined.task.v1.task_pb2 import TaskLog
from tests.launcher.relay.conftest import RunRelay, eventually
from tests.launcher.relay.master import ALLOCATION, TASK, TOKEN, TRIAL, StandInMaster
from tests.launcher.relay.test_delivery import LOGS, make_line, post

Call = Callable[..., Awaitable[bytes]]
PROXY = trial_pb2.PostAllocationProxyAddressRequest(
    allocation_id=ALLOCATION, proxy_address="10.0.0.1"
)


@pytest.fixture
async def channel(relay: Relay) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(relay.url.removeprefix("http://")) as channel:
        yield channel


@pytest.fixture
def call(channel: grpc.aio.Channel) -> Call:
    return lambda rpc, request, token=TOKEN: unary(channel, rpc, request, token)


def unary(channel: grpc.aio.Channel, rpc: str, request: Any, token: str = TOKEN) -> Any:
    return channel.unary_unary(f"/determined.api.v1.Determined/{rpc}")(
        request.SerializeToString(),
        metadata=(("x-allocation-token", f"Bearer {token}"),),
        timeout=30,
    )


def make_logs(text: str, **changes: Any) -> task_pb2.PostTaskLogsRequest:
    line = TaskLog(task_id=TASK, allocation_id=ALLOCATION, container_id="c", log=text)
    for name, value in changes.items():
        setattr(line, name, value)
    return task_pb2.PostTaskLogsRequest(logs=[line])


async def test_lines_and_signals_are_kept_while_the_master_is_away(
    master: StandInMaster, call: Call
) -> None:
    await master.stop()
    assert await call("PostTaskLogs", make_logs("kept\n")) == b""
    about = trial_pb2.AllocationPendingPreemptionSignalRequest(allocation_id=ALLOCATION)
    for rpc in (
        "AllocationPendingPreemptionSignal",
        "AckAllocationPreemptionSignal",
        "AllocationReady",
    ):
        for _ in range(2):
            assert await call(rpc, about) == b""
    notice = trial_pb2.NotifyContainerRunningRequest(
        allocation_id=ALLOCATION, num_peers=2, rank=1, node_name="n1"
    )
    assert await call("NotifyContainerRunning", notice) == b""
    metrics = trial_pb2.PostTrialProfilerMetricsBatchRequest()
    metrics.batches.add(values=[1.0]).labels.trial_id = TRIAL
    assert await call("PostTrialProfilerMetricsBatch", metrics) == b""
    await master.start()
    await eventually(lambda: master.lines and master.running and master.readings)
    assert master.lines == ["kept\n"]
    assert master.preemptions == master.acknowledged == master.ready == [ALLOCATION]


async def test_lines_by_grpc_and_by_rest_are_one_log(
    master: StandInMaster, relay: Relay, call: Call, client: aiohttp.ClientSession
) -> None:
    for number in range(20):
        if number % 2:
            await call("PostTaskLogs", make_logs(f"{number}\n"))
        else:
            await post(client, relay.url + LOGS, {"logs": [make_line(f"{number}\n")]})
    await eventually(lambda: len(master.lines) == 20)
    assert master.lines == [f"{number}\n" for number in range(20)]


async def test_a_line_without_a_time_has_that_of_its_coming(
    master: StandInMaster, call: Call
) -> None:
    await call("PostTaskLogs", make_logs("x\n"))
    await eventually(lambda: master.batches)
    assert master.batches[0][0].timestamp.seconds > 0


async def test_other_calls_pass_with_all_that_belongs_to_them(
    master: StandInMaster, channel: grpc.aio.Channel
) -> None:
    made = unary(channel, "PostAllocationProxyAddress", PROXY)
    assert await made == b""
    assert dict(await made.trailing_metadata())["x-trail"] == "end"
    assert master.proxies == ["10.0.0.1"]
    master.refusals["PostAllocationProxyAddress"] = (grpc.StatusCode.NOT_FOUND, "no such one")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await unary(channel, "PostAllocationProxyAddress", PROXY)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert refused.value.details() == "no such one"


async def test_a_stream_passes_as_it_comes(
    master: StandInMaster, relay: Relay, channel: grpc.aio.Channel, call: Call
) -> None:
    for text in ("a\n", "b\n"):
        await call("PostTaskLogs", make_logs(text))
    await eventually(lambda: len(master.lines) == 2)
    question = task_pb2.TaskLogsRequest(task_id=TASK, allocation_ids=[ALLOCATION])
    question.timestamp_before.FromJsonString("2100-01-01T00:00:00Z")
    answers = channel.unary_stream("/determined.api.v1.Determined/TaskLogs")(
        question.SerializeToString(), metadata=(("x-allocation-token", f"Bearer {TOKEN}"),)
    )
    found = [task_pb2.TaskLogsResponse.FromString(answer).log async for answer in answers]
    assert found == ["a\n", "b\n"]


@pytest.mark.parametrize(
    ("rpc", "request_"),
    [
        ("PostTaskLogs", make_logs("x", task_id="other")),
        ("PostTaskLogs", make_logs("x", allocation_id=f"{TASK}.2")),
        (
            "AckAllocationPreemptionSignal",
            trial_pb2.AckAllocationPreemptionSignalRequest(allocation_id=f"{TASK}.2"),
        ),
        (
            "PostAllocationProxyAddress",
            trial_pb2.PostAllocationProxyAddressRequest(allocation_id=f"{TASK}.2"),
        ),
        (
            "AllocationAllGather",
            trial_pb2.AllocationAllGatherRequest(
                allocation_id=f"{TASK}.2", request_uuid="0" * 32, num_peers=1
            ),
        ),
    ],
)
async def test_a_job_speaks_for_itself_alone(
    master: StandInMaster, call: Call, rpc: str, request_: Any
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(rpc, request_)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert master.lines == master.acknowledged == master.proxies == []


async def test_a_foreign_token_is_the_masters_to_judge(master: StandInMaster, call: Call) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call("PostTaskLogs", make_logs("x"), "forged")
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert refused.value.details() == "invalid credentials"


async def test_a_message_that_is_none_is_refused(channel: grpc.aio.Channel) -> None:
    for rpc in ("PostTaskLogs", "AllocationReady", "AllocationAllGather"):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(f"/determined.api.v1.Determined/{rpc}")(
                b"\xff\xff", metadata=(("x-allocation-token", f"Bearer {TOKEN}"),)
            )
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_call_without_a_master_is_to_be_tried_again(
    master: StandInMaster, run_relay: RunRelay
) -> None:
    relay, _ = await run_relay(master_wait_s=0.1)
    await master.stop()
    async with grpc.aio.insecure_channel(relay.url.removeprefix("http://")) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await unary(channel, "PostAllocationProxyAddress", PROXY)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
