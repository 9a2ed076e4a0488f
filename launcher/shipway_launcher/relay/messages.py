"""From the JSON that jobs send to the messages of the API, and back; pure."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from google.protobuf import json_format, struct_pb2, timestamp_pb2
from google.protobuf.message import DecodeError

from shipway_launcher.relay.errors import BadRequest
from shipway_proto.determined.api.v1 import task_pb2 as api_task
from shipway_proto.determined.api.v1 import trial_pb2 as api_trial
from shipway_proto.determined.log.v1 import log_pb2
from shipway_proto.determined.task.v1 import task_pb2

POST_LOGS = "PostTaskLogs"
POST_METRICS = "PostTrialProfilerMetricsBatch"

_TEXT = ("task_id", "allocation_id", "agent_id", "container_id", "log", "source", "stdtype")
_names = {name: name for name in (*_TEXT, "rank_id", "timestamp", "level")} | {
    "taskId": "task_id",
    "allocationId": "allocation_id",
    "agentId": "agent_id",
    "containerId": "container_id",
    "rankId": "rank_id",
}
_EXACT = 2**53  # beyond it a double no longer holds every integer


def parse_body(body: bytes) -> dict[str, Any]:
    """Read a request's body, whatever its content type said; an empty one is an empty message.

    Raises:
        BadRequest: It is no JSON object.
    """
    if not body.strip():
        return {}
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"the body must be a JSON object, not {type(value).__name__}")
    return cast("dict[str, Any]", value)


def task_logs_request(body: Mapping[str, Any]) -> api_task.PostTaskLogsRequest:
    """Make the message of `POST /api/v1/task/logs`.

    Raises:
        BadRequest: There is no line, or one that the master would not take; says which and why.
    """
    records: object = body.get("logs")
    if not isinstance(records, list) or not records:
        raise BadRequest("logs: must be a list of at least one line")
    lines = [
        _task_log(record, number) for number, record in enumerate(cast("list[object]", records))
    ]
    if len({line.task_id for line in lines}) > 1:
        raise BadRequest("logs: all lines of one request must be of the same task")
    return api_task.PostTaskLogsRequest(logs=lines)


def gap_line(like: task_pb2.TaskLog, text: str) -> api_task.PostTaskLogsRequest:
    """Make one warning line of our own for the log of the task that *like* belongs to."""
    line = task_pb2.TaskLog(
        task_id=like.task_id,
        log=text + "\n",
        source="task",
        stdtype="stderr",
        level=log_pb2.LOG_LEVEL_WARNING,
        timestamp=like.timestamp,
    )
    if like.HasField("allocation_id"):
        line.allocation_id = like.allocation_id
    if like.HasField("agent_id"):
        line.agent_id = like.agent_id
    return api_task.PostTaskLogsRequest(logs=[line])


def own_line(
    task_id: str, allocation_id: str, text: str, *, level: log_pb2.LogLevel.ValueType
) -> bytes:
    """Make a request with one line of the relay's own for the log of a task."""
    now_s = time.time()
    line = task_pb2.TaskLog(
        task_id=task_id,
        allocation_id=allocation_id,
        log=text + "\n",
        source="launcher",
        stdtype="stderr",
        level=level,
        timestamp=timestamp_pb2.Timestamp(
            seconds=int(now_s), nanos=int(now_s % 1 * 1_000_000) * 1000
        ),
    )
    return api_task.PostTaskLogsRequest(logs=[line]).SerializeToString()


def stamp_lines(request: api_task.PostTaskLogsRequest) -> bool:
    """Give lines without a time that of now; returns whether there were such lines.

    The master would do so when they arrive, which may be much later.
    """
    bare = [line for line in request.logs if not line.HasField("timestamp")]
    for line in bare:
        line.timestamp.FromMicroseconds(time.time_ns() // 1000)
    return bool(bare)


def metrics_request(body: Mapping[str, Any]) -> api_trial.PostTrialProfilerMetricsBatchRequest:
    """Make the message of `POST /api/v1/trials/profiler/metrics`.

    Raises:
        BadRequest: A field has the wrong type.
    """
    request = api_trial.PostTrialProfilerMetricsBatchRequest()
    _parse(_with_proper_nans(body), request)
    return request


def _with_proper_nans(value: Any) -> Any:
    """Spell what is no number as protobuf does: clients say Nan, or NaN without quotes."""
    match value:
        case dict():
            items = cast("dict[str, object]", value).items()
            return {name: _with_proper_nans(item) for name, item in items}
        case list():
            return [_with_proper_nans(item) for item in cast("list[object]", value)]
        case "Nan":
            return "NaN"
        case float() if not math.isfinite(value):
            return _number_json(value)
        case _:
            return value


def log_lines_answer(line: task_pb2.TaskLog) -> bytes:
    """Make the answer of `GET /api/v1/tasks/{task_id}/logs` with one line in it."""
    answer = api_task.TaskLogsResponse(
        timestamp=line.timestamp,
        level=line.level,
        task_id=line.task_id,
        allocation_id=line.allocation_id,
        agent_id=line.agent_id,
        container_id=line.container_id,
        log=line.log,
        source=line.source,
        stdtype=line.stdtype,
    )
    if line.HasField("rank_id"):
        answer.rank_id = line.rank_id
    result = json_format.MessageToDict(answer, always_print_fields_with_no_presence=True)
    return json.dumps({"result": result}).encode() + b"\n"


def notify_request(
    allocation_id: str, body: Mapping[str, Any]
) -> api_trial.NotifyContainerRunningRequest:
    """Make the message of `POST …/notify_container_running`.

    Raises:
        BadRequest: A field has the wrong type.
    """
    request = api_trial.NotifyContainerRunningRequest()
    _parse(body, request)
    request.allocation_id = allocation_id
    return request


def all_gather_request(
    allocation_id: str, body: Mapping[str, Any]
) -> api_trial.AllocationAllGatherRequest:
    """Make the message of `POST …/all_gather`.

    Raises:
        BadRequest: A field has the wrong type.
    """
    request = api_trial.AllocationAllGatherRequest()
    _parse(body, request)
    request.allocation_id = allocation_id
    try:  # more can be written than anybody will read
        return api_trial.AllocationAllGatherRequest.FromString(request.SerializeToString())
    except DecodeError as error:
        raise BadRequest("data: is nested too deeply") from error


def allocation_request(allocation_id: str) -> bytes:
    """Make the message of a call that names an allocation and nothing else: they all look alike."""
    return api_trial.AllocationPendingPreemptionSignalRequest(
        allocation_id=allocation_id
    ).SerializeToString()


def parse_allocation_id(message: bytes) -> str:
    """Return the allocation that a message names in its first field.

    Raises:
        DecodeError: It is no message.
    """
    return api_trial.AllocationPendingPreemptionSignalRequest.FromString(message).allocation_id


def all_gather_json(answer: bytes) -> bytes:
    """Turn the answer into JSON in which integers are still integers."""
    response = api_trial.AllocationAllGatherResponse.FromString(answer)
    data = [struct_json(item) for item in response.data]
    return json.dumps({"data": data}, ensure_ascii=False, allow_nan=False).encode()


def struct_json(struct: struct_pb2.Struct) -> dict[str, Any]:
    """Turn a free-form object into JSON; 2.0 becomes 2, because it was 2 when it was sent."""
    return {name: _value_json(value) for name, value in struct.fields.items()}


def _value_json(value: struct_pb2.Value) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            return struct_json(value.struct_value)
        case "list_value":
            return [_value_json(item) for item in value.list_value.values]
        case "number_value":
            return _number_json(value.number_value)
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case _:
            return None


def _number_json(number: float) -> float | int | str:
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return int(number) if number.is_integer() and abs(number) <= _EXACT else number


def _parse(
    body: Mapping[str, Any],
    message: api_trial.NotifyContainerRunningRequest
    | api_trial.AllocationAllGatherRequest
    | api_trial.PostTrialProfilerMetricsBatchRequest,
) -> None:
    try:
        json_format.ParseDict(dict(body), message, ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise BadRequest(str(error)) from error
    except RecursionError as error:
        raise BadRequest("the body is nested too deeply") from error


def _task_log(record: object, number: int) -> task_pb2.TaskLog:
    if not isinstance(record, dict):
        raise BadRequest(f"logs[{number}]: must be an object")
    fields: dict[str, Any] = {}
    for key, value in cast("dict[str, Any]", record).items():
        name = _names.get(key)
        if name is None or value is None:
            continue
        try:
            fields[name] = _field(name, value)
        except (ValueError, TypeError, OverflowError) as error:
            raise BadRequest(f"logs[{number}].{key}: {error}") from error
    if not fields.get("task_id"):
        raise BadRequest(f"logs[{number}].taskId: is missing")
    return task_pb2.TaskLog(**fields)


def _field(name: str, value: Any) -> Any:
    if name == "timestamp":
        return _timestamp(value)
    if name == "level":
        return _level(value)
    if name == "rank_id":
        return _int32(value)
    if not isinstance(value, str):
        raise TypeError(f"must be text, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair is legal in JSON, but not in a message
        return value.encode("utf-8", "replace").decode()
    return value


def _int32(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError("must be a whole number")
    number = int(value)
    if not -(2**31) <= number < 2**31:
        raise ValueError("is out of range")
    return number


def _level(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return _int32(value)
    if not isinstance(value, str):
        raise TypeError("must be the name of a level")
    # The stock log shipper says ERROR where the enum says LOG_LEVEL_ERROR.
    name = value if value.startswith("LOG_LEVEL_") else f"LOG_LEVEL_{value}"
    if name not in log_pb2.LogLevel.keys():  # noqa: SIM118 (an enum wrapper, no dict)
        raise ValueError(f"there is no level {value!r}")
    return log_pb2.LogLevel.Value(name)


def _timestamp(value: Any) -> timestamp_pb2.Timestamp:
    if not isinstance(value, str):
        raise TypeError("must be a time as RFC 3339 writes it")
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("names no time zone")
    moment = moment.astimezone(UTC)
    whole = moment.replace(microsecond=0)
    return timestamp_pb2.Timestamp(seconds=int(whole.timestamp()), nanos=moment.microsecond * 1000)


def owner_of(logs: Sequence[task_pb2.TaskLog]) -> str:
    """Return what the lines of one request belong to: their allocation, else their task."""
    first = logs[0]
    return first.allocation_id or first.task_id
