"""What the master has already of messages that may have arrived; asked before they are repeated.

A log line is known by its container, its time and its text, a reading by its series and its time.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence

from google.protobuf import timestamp_pb2

from shipway_launcher.relay.errors import MasterRefused
from shipway_launcher.relay.journal import Message
from shipway_launcher.relay.master import MasterRpc, Metadata
from shipway_launcher.relay.messages import POST_LOGS, POST_METRICS
from shipway_proto.determined.api.v1 import task_pb2 as api_task
from shipway_proto.determined.api.v1 import trial_pb2 as api_trial
from shipway_proto.determined.task.v1.task_pb2 import TaskLog

log = logging.getLogger(__name__)

_LIMIT_S = 60.0
_MARGIN_US = 1000  # a master may keep milliseconds
_LineKey = tuple[str, str, int, str]


async def without_stored(
    master: MasterRpc, metadata: Metadata, messages: Sequence[Message]
) -> list[Message]:
    """Return *messages* without the lines and readings that the master has.

    Other calls do no harm when they come twice, and are all returned. So are those about which the
    master refuses to answer: twice is better than never.

    Raises:
        MasterUnreachable: It cannot be asked now.
    """
    try:
        match messages[0].rpc:
            case rpc if rpc == POST_LOGS:
                return await _without_stored_lines(master, metadata, messages)
            case rpc if rpc == POST_METRICS:
                return await _without_stored_readings(master, metadata, messages)
            case _:
                return list(messages)
    except MasterRefused as error:
        log.warning(
            "whether messages have arrived cannot be told; they may come twice",
            extra={"rpc": messages[0].rpc, "reason": str(error)},
        )
        return list(messages)


async def _without_stored_lines(
    master: MasterRpc, metadata: Metadata, messages: Sequence[Message]
) -> list[Message]:
    requests = [api_task.PostTaskLogsRequest.FromString(message.request) for message in messages]
    lines = [line for request in requests for line in request.logs if line.HasField("timestamp")]
    if not lines:
        return list(messages)
    stored = await _stored_lines(master, metadata, lines)
    left: list[Message] = []
    for message, request in zip(messages, requests, strict=True):
        missing = [line for line in request.logs if not _take(stored, line)]
        if len(missing) == len(request.logs):
            left.append(message)
        elif missing:
            part = api_task.PostTaskLogsRequest(logs=missing).SerializeToString()
            left.append(Message(rpc=message.rpc, request=part, lines=len(missing)))
    return left


async def _stored_lines(
    master: MasterRpc, metadata: Metadata, lines: Sequence[TaskLog]
) -> Counter[_LineKey]:
    """Ask for all lines of the allocation from the time of these."""
    times = [_microseconds(line.timestamp) for line in lines]
    question = api_task.TaskLogsRequest(
        task_id=lines[0].task_id,
        allocation_ids=sorted({line.allocation_id for line in lines} - {""}),
        timestamp_after=_timestamp(min(times) - _MARGIN_US),
        timestamp_before=_timestamp(max(times) + _MARGIN_US),
    )
    wanted, stored = set(map(_line_key, lines)), Counter[_LineKey]()
    async for answer in master.ask(
        "TaskLogs", question.SerializeToString(), metadata, limit_s=_LIMIT_S
    ):
        key = _line_key(api_task.TaskLogsResponse.FromString(answer))
        if key in wanted:  # there may be many others of that time
            stored[key] += 1
    return stored


def _line_key(line: TaskLog | api_task.TaskLogsResponse) -> _LineKey:
    return line.agent_id, line.container_id, _microseconds(line.timestamp), line.log


def _take(stored: Counter[_LineKey], line: TaskLog) -> bool:
    key = _line_key(line)
    if not line.HasField("timestamp") or stored[key] < 1:
        return False
    stored[key] -= 1
    return True


async def _without_stored_readings(
    master: MasterRpc, metadata: Metadata, messages: Sequence[Message]
) -> list[Message]:
    known: dict[bytes, set[int]] = {}
    left: list[Message] = []
    for message in messages:
        request = api_trial.PostTrialProfilerMetricsBatchRequest.FromString(message.request)
        missing = api_trial.PostTrialProfilerMetricsBatchRequest()
        for batch in request.batches:
            series = batch.labels.SerializeToString(deterministic=True)
            if series not in known:
                question = api_trial.GetTrialProfilerMetricsRequest(labels=batch.labels)
                known[series] = await _stored_times(master, metadata, question)
            if not batch.timestamps or _microseconds(batch.timestamps[0]) not in known[series]:
                missing.batches.append(batch)
        if missing.batches:
            left.append(Message(rpc=message.rpc, request=missing.SerializeToString()))
    return left


async def _stored_times(
    master: MasterRpc, metadata: Metadata, question: api_trial.GetTrialProfilerMetricsRequest
) -> set[int]:
    times: set[int] = set()
    async for answer in master.ask(
        "GetTrialProfilerMetrics", question.SerializeToString(), metadata, limit_s=_LIMIT_S
    ):
        batch = api_trial.GetTrialProfilerMetricsResponse.FromString(answer).batch
        times.update(_all_microseconds(batch.timestamps))
    return times


def _all_microseconds(times: Iterable[timestamp_pb2.Timestamp]) -> Iterable[int]:
    return map(_microseconds, times)


def _microseconds(time: timestamp_pb2.Timestamp) -> int:
    return time.seconds * 1_000_000 + time.nanos // 1000


def _timestamp(time_us: int) -> timestamp_pb2.Timestamp:
    seconds, rest = divmod(time_us, 1_000_000)
    return timestamp_pb2.Timestamp(seconds=seconds, nanos=rest * 1000)
