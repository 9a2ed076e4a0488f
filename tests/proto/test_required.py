"""The helper that tells which keys of an answer the stock client would miss."""

from __future__ import annotations

import json

from google.protobuf import json_format

from shipway_proto.determined.api.v1 import agent_pb2
from tests.proto.required import missing_required, to_camel_case

GET_AGENTS = "determined.api.v1.GetAgentsResponse"


def _agents_answer() -> object:
    answer = agent_pb2.GetAgentsResponse()
    agent = answer.agents.add(id="a")
    agent.slots["0"].id = "0"
    agent.slot_stats.type_stats["TYPE_CUDA"].total = 1
    return json.loads(json_format.MessageToJson(answer, always_print_fields_with_no_presence=True))


def test_a_complete_answer_lacks_nothing() -> None:
    assert missing_required(GET_AGENTS, _agents_answer()) == []


def test_a_missing_key_is_named_with_its_path() -> None:
    broken = {"agents": [{"id": "a", "slotStats": {"typeStats": {"TYPE_CPU": {"draining": 0}}}}]}
    assert missing_required(GET_AGENTS, broken) == [
        "agents[0].slotStats.typeStats.TYPE_CPU.disabled",
        "agents[0].slotStats.typeStats.TYPE_CPU.total",
        "agents[0].slotStats.brandStats",
    ]


def test_an_empty_answer_lacks_the_top_keys() -> None:
    assert missing_required(GET_AGENTS, {}) == ["agents"]


def test_null_counts_only_where_the_client_breaks_on_it() -> None:
    command = "determined.command.v1.Command"
    answer = {
        "id": None,
        "description": None,
        "state": None,
        "startTime": None,
        "username": None,
        "resourcePool": None,
        "jobId": None,
        "workspaceId": None,
    }
    assert missing_required(command, answer) == ["state: null"]


def test_an_answer_that_is_no_object_is_reported() -> None:
    assert missing_required(GET_AGENTS, []) == [f"{GET_AGENTS}: not an object"]
    assert missing_required(GET_AGENTS, {"agents": ["a"]}) == ["agents[0]: not an object"]


def test_names_are_the_ones_that_protobuf_makes() -> None:
    for message in agent_pb2.DESCRIPTOR.message_types_by_name.values():
        for field in message.fields:
            assert to_camel_case(field.name) == field.json_name
