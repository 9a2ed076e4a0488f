"""What JSON may hold for each kind of field."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from shipway_master.errors import InvalidArgument
from shipway_master.gateway.decode import fill, fill_field, parse_json
from shipway_master.gateway.encode import to_data, to_json
from shipway_master.rpc import METHODS
from shipway_master.structs import to_plain
from shipway_proto.determined.api.v1.command_pb2 import LaunchCommandRequest
from shipway_proto.determined.api.v1.master_pb2 import PatchMasterConfigRequest
from shipway_proto.determined.api.v1.task_pb2 import PostTaskLogsRequest
from shipway_proto.determined.api.v1.trial_pb2 import (
    AllocationAllGatherRequest,
    PostTrialProfilerMetricsBatchRequest,
)
from shipway_proto.determined.api.v1.user_pb2 import PatchUserRequest, SetUserPasswordRequest
from shipway_proto.determined.checkpoint.v1.checkpoint_pb2 import Checkpoint
from shipway_proto.determined.log.v1.log_pb2 import LOG_LEVEL_ERROR
from shipway_proto.determined.task.v1.task_pb2 import TaskLog
from shipway_proto.determined.util.v1.util_pb2 import File


def filled(kind: type[Message], data: Any) -> Any:
    """Fill a new message of *kind* with what JSON text of *data* says."""
    message = kind()
    fill(message, parse_json(json.dumps(data).encode()))
    return message


def test_both_spellings_of_names_may_be_mixed() -> None:
    request = filled(LaunchCommandRequest, {"template_name": "t", "workspaceId": 3})

    assert (request.template_name, request.workspace_id) == ("t", 3)


@pytest.mark.parametrize("mtime", [1700000000, "1700000000", 1.7e9])
def test_64_bit_integers_are_numbers_or_text(mtime: Any) -> None:
    assert filled(File, {"mtime": mtime}).mtime == 1700000000


@pytest.mark.parametrize("rank", ["7", 7, 7.0])
def test_32_bit_integers_may_be_quoted(rank: Any) -> None:
    assert filled(TaskLog, {"rankId": rank}).rank_id == 7


@pytest.mark.parametrize(
    "value", [1.5, "1.5", "x", "", " 7", "1_0", "٣", True, [], {}, 2**31, -(2**31) - 1, "9" * 30]
)
def test_anything_else_is_no_32_bit_integer(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^rankId: "):
        filled(TaskLog, {"rankId": value})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.5, 0.5),
        (3, 3.0),
        ("2.5", 2.5),
        ("-1e3", -1000.0),
        ("NaN", math.nan),
        ("Nan", math.nan),
        ("Infinity", math.inf),
        ("-infinity", -math.inf),
    ],
)
def test_floats_may_be_quoted_and_special_in_any_case(value: Any, expected: float) -> None:
    batch = {"labels": {"trialId": 1, "name": "n"}, "values": [value]}

    request = filled(PostTrialProfilerMetricsBatchRequest, {"batches": [batch]})

    assert str(request.batches[0].values[0]) == str(expected)


@pytest.mark.parametrize("value", ["x", "", True, None, 1e39, "1e39", {}])
def test_a_wrong_float_is_named_with_its_place(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^batches\[0\]\.values\[0\]: "):
        filled(PostTrialProfilerMetricsBatchRequest, {"batches": [{"values": [value]}]})


@pytest.mark.parametrize("text", ["//79/A==", "__79_A==", "//79/A", "__79_A"])
def test_bytes_are_base64_of_either_alphabet(text: str) -> None:
    assert filled(File, {"content": text}).content == b"\xff\xfe\xfd\xfc"


@pytest.mark.parametrize("value", ["?", "a", 7, "ä"])
def test_what_is_no_base64_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^content: "):
        filled(File, {"content": value})


@pytest.mark.parametrize("value", ["LOG_LEVEL_ERROR", 5, "ERROR"])
def test_enums_are_names_or_numbers_or_names_without_their_prefix(value: Any) -> None:
    assert filled(TaskLog, {"level": value}).level == LOG_LEVEL_ERROR


@pytest.mark.parametrize("value", ["LOUD", 99, True, 5.5, "log_level_error"])
def test_an_unknown_enum_value_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^level: "):
        filled(TaskLog, {"level": value})


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05+00:00",
        "2026-01-02T05:34:05.000+02:30",
        "2026-01-01T22:04:05.000000000-05:00",
        "2026-01-02t03:04:05z",
    ],
)
def test_times_may_have_any_offset(text: str) -> None:
    assert filled(TaskLog, {"timestamp": text}).timestamp.seconds == 1767323045


def test_times_keep_their_nanoseconds() -> None:
    stamp = filled(TaskLog, {"timestamp": "1969-12-31T23:59:59.123456789Z"}).timestamp

    assert (stamp.seconds, stamp.nanos) == (-1, 123456789)


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-02",
        "2026-13-01T00:00:00Z",
        "2026-01-02T03:04:05",
        7,
        "",
        "0001-01-01T00:00:00+01:00",
    ],
)
def test_what_is_no_time_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^timestamp: "):
        filled(TaskLog, {"timestamp": value})


def test_null_is_the_same_as_absent_for_every_kind() -> None:
    nulls = dict.fromkeys(TaskLog.DESCRIPTOR.fields_by_name)

    assert filled(TaskLog, nulls) == TaskLog()
    assert filled(PostTaskLogsRequest, {"logs": None}) == PostTaskLogsRequest()
    assert not filled(PatchUserRequest, {"user": None}).HasField("user")


def test_presence_is_kept() -> None:
    user = filled(PatchUserRequest, {"user": {"admin": False, "displayName": ""}}).user

    assert user.HasField("admin")
    assert user.HasField("display_name")
    assert not user.HasField("active")


def test_an_empty_object_is_a_message_that_is_there() -> None:
    assert filled(PatchUserRequest, {"user": {}}).HasField("user")


def test_free_form_objects_keep_whole_numbers_and_nulls() -> None:
    data = {"rank": 0, "x": {"y": [1, 2.5, None, "NaN", True]}, "empty": [], "none": None}

    request = filled(AllocationAllGatherRequest, {"data": data})

    assert to_plain(request.data) == data
    assert type(to_plain(request.data)["rank"]) is int
    assert json.loads(to_json(request.data)) == data


@pytest.mark.parametrize("value", [[], "x", 7])
def test_a_free_form_object_must_be_an_object(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^data: an object is expected"):
        filled(AllocationAllGatherRequest, {"data": value})


def test_maps_take_text_keys() -> None:
    checkpoint = filled(Checkpoint, {"resources": {"a/b": "7", "c": 8}})

    assert dict(checkpoint.resources) == {"a/b": 7, "c": 8}


@pytest.mark.parametrize("mask", [{"paths": ["log.level", "log.color"]}, "log.level,log.color"])
def test_a_field_mask_may_be_an_object(mask: Any) -> None:
    request = filled(PatchMasterConfigRequest, {"fieldMask": mask})

    assert list(request.field_mask.paths) == ["log.level", "log.color"]


def test_half_of_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"^log: "):
        filled(TaskLog, {"log": "\ud800"})


def test_a_number_too_large_for_a_double_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"^data: "):
        filled(AllocationAllGatherRequest, {"data": {"x": 10**400}})


def test_a_field_can_be_filled_alone() -> None:
    request = SetUserPasswordRequest()

    fill_field(request, "password", "secret")

    assert request.password == "secret"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"'",
        b"\xff\xfe",
        b'{"a": Infinity}',
        b"[" * 5000 + b"]" * 5000,
        b"[" * 150 + b"]" * 150,
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidArgument):
        parse_json(body)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_request_takes_what_the_stock_encoder_writes(name: str) -> None:
    kind = METHODS[name].request
    written = json_format.MessageToDict(kind(), always_print_fields_with_no_presence=True)

    assert filled(kind, written) == kind()
    assert filled(kind, to_data(kind())) == kind()
