"""How messages look as JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from shipway_master.gateway.encode import to_data, to_json
from shipway_master.gateway.scalars import write_duration, write_time
from shipway_master.rpc import METHODS
from shipway_master.structs import to_struct
from shipway_proto.determined.agent.v1.agent_pb2 import Agent, SlotStats
from shipway_proto.determined.api.v1.master_pb2 import GetMasterConfigResponse
from shipway_proto.determined.api.v1.task_pb2 import TaskLogsResponse
from shipway_proto.determined.checkpoint.v1.checkpoint_pb2 import Checkpoint
from shipway_proto.determined.experiment.v1.experiment_pb2 import Experiment
from shipway_proto.determined.log.v1.log_pb2 import LOG_LEVEL_INFO
from shipway_proto.determined.trial.v1.trial_pb2 import TrialProfilerMetricsBatch
from shipway_proto.determined.util.v1.util_pb2 import File


def test_defaults_are_written_and_unset_messages_are_null() -> None:
    data = to_data(Agent())

    assert data["id"] == ""
    assert data["enabled"] is False
    assert data["slots"] == {}
    assert data["addresses"] == []
    assert data["registeredTime"] is None
    assert data["slotStats"] is None


def test_optional_fields_are_left_out_unless_set() -> None:
    assert "rankId" not in to_data(TaskLogsResponse())
    assert to_data(TaskLogsResponse(rank_id=0))["rankId"] == 0


def test_members_of_a_oneof_are_left_out_unless_set() -> None:
    data = to_data(METHODS["GetJobsV2"].response())
    job_type = METHODS["GetJobsV2"].response.DESCRIPTOR.fields_by_name["jobs"].message_type

    assert data["jobs"] == []
    assert job_type is not None
    job = METHODS["GetJobsV2"].response()
    job.jobs.add()  # type: ignore[attr-defined]
    assert to_data(job)["jobs"] == [{}]


def test_64_bit_integers_are_text_and_32_bit_ones_numbers() -> None:
    assert to_data(Checkpoint(resources={"a": 2**53 + 1}))["resources"] == {"a": "9007199254740993"}
    assert to_data(Experiment(checkpoint_size=7))["checkpointSize"] == "7"
    assert to_data(File(mode=420))["mode"] == 420


def test_enums_are_names() -> None:
    assert to_data(TaskLogsResponse(level=LOG_LEVEL_INFO))["level"] == "LOG_LEVEL_INFO"
    assert to_data(TaskLogsResponse())["level"] == "LOG_LEVEL_UNSPECIFIED"


def test_bytes_are_padded_standard_base64() -> None:
    assert to_data(File(content=b"\xff\xfe\xfd\xfc"))["content"] == "//79/A=="


def test_maps_of_messages_are_objects_in_the_order_of_their_keys() -> None:
    stats = SlotStats()
    stats.type_stats["b"].total = 2
    stats.type_stats["a"].total = 1

    data = to_data(stats)

    assert list(data["typeStats"]) == ["a", "b"]
    assert data["typeStats"]["b"]["total"] == 2
    assert data["brandStats"] == {}


def test_wrappers_are_bare_values_or_null() -> None:
    experiment = Experiment()
    assert (to_data(experiment)["forkedFrom"], to_data(experiment)["progress"]) == (None, None)
    experiment.forked_from.value = 0
    experiment.progress.value = 0.5
    assert (to_data(experiment)["forkedFrom"], to_data(experiment)["progress"]) == (0, 0.5)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.1, "0.1"),
        (1.0, "1"),
        (-2.5, "-2.5"),
        (16777216.0, "16777216"),
        (3.4028234663852886e38, "3.4028235e+38"),
        (math.nan, '"NaN"'),
        (math.inf, '"Infinity"'),
        (-math.inf, '"-Infinity"'),
    ],
    ids=str,
)
def test_floats_have_the_fewest_digits_that_are_the_same_float(number: float, text: str) -> None:
    body = to_json(TrialProfilerMetricsBatch(values=[number])).decode()

    assert body.startswith('{"values":[' + text + "]")


def test_free_form_numbers_stay_whole() -> None:
    free = {
        "port": 8080,
        "half": 0.5,
        "big": 2**53,
        "list": [1, -2, {"x": 0}],
        "none": None,
        "nan": math.nan,
        "yes": True,
        "empty": {},
        "huge": 1e300,
    }

    body = to_json(GetMasterConfigResponse(config=to_struct(free)))

    assert b'"port":8080' in body
    assert b'"big":9007199254740992' in body
    assert json.loads(body)["config"] == free | {"nan": "NaN"}
    assert b'"list":[1,-2,{"x":0}]' in body


def test_text_is_utf_8_and_escaped_where_it_must_be() -> None:
    body = to_json(TaskLogsResponse(log='día "😀"\n\x00\x1b'))

    assert '"log":"día \\"😀\\"\\n\\u0000\\u001b"' in body.decode()


@pytest.mark.parametrize(
    ("seconds", "nanos", "text"),
    [
        (0, 0, "1970-01-01T00:00:00Z"),
        (1, 500_000_000, "1970-01-01T00:00:01.500Z"),
        (1, 500_000, "1970-01-01T00:00:01.000500Z"),
        (1, 5, "1970-01-01T00:00:01.000000005Z"),
        (-1, 0, "1969-12-31T23:59:59Z"),
        (253402300799, 999_999_999, "9999-12-31T23:59:59.999999999Z"),
        (-62135596800, 0, "0001-01-01T00:00:00Z"),
    ],
)
def test_times_are_utc_with_as_many_digits_as_needed(seconds: int, nanos: int, text: str) -> None:
    assert write_time(Timestamp(seconds=seconds, nanos=nanos)) == text


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (Duration(seconds=90), "90s"),
        (Duration(seconds=1, nanos=500_000_000), "1.500s"),
        (Duration(seconds=0, nanos=-5_000), "-0.000005s"),
        (Duration(seconds=-1, nanos=-1), "-1.000000001s"),
    ],
    ids=str,
)
def test_durations_are_seconds(duration: Duration, text: str) -> None:
    assert write_duration(duration) == text


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_answer_of_the_api_can_be_written(name: str) -> None:
    data: Any = to_data(METHODS[name].response())

    assert isinstance(data, dict)


def test_a_struct_that_was_never_set_is_null_and_an_empty_one_an_object() -> None:
    assert to_data(GetMasterConfigResponse())["config"] is None
    assert to_data(GetMasterConfigResponse(config=Struct()))["config"] == {}


def test_the_plans_are_made_for_a_message_of_any_depth() -> None:
    deep: Message = METHODS["GetModelDefTree"].response()
    node = deep.files.add()  # type: ignore[attr-defined]
    node.files.add(name="inner")

    assert to_data(deep)["files"][0]["files"][0]["name"] == "inner"
