"""Paths and queries."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest
from google.protobuf.message import Message

from shipway_master.errors import InvalidArgument
from shipway_master.gateway.query import bind_path, bind_query
from shipway_master.gateway.routes import Routes
from shipway_master.rpc import METHODS
from shipway_proto.determined.api.v1.task_pb2 import TaskLogsRequest
from shipway_proto.determined.api.v1.trial_pb2 import (
    GetTrialProfilerMetricsRequest,
    ReportTrialMetricsRequest,
)
from shipway_proto.determined.api.v1.user_pb2 import GetUsersRequest, PatchUserRequest
from shipway_proto.determined.api.v1.workspace_pb2 import (
    GetWorkspacesRequest,
    PostWorkspaceRequest,
)
from shipway_proto.determined.log.v1.log_pb2 import LOG_LEVEL_ERROR, LOG_LEVEL_INFO


def bound(kind: type[Message], query: str, taken: Collection[str] = ()) -> Any:
    """Bind *query* to a new message of *kind*."""
    message = kind()
    bind_query(message, query, taken=taken)
    return message


def test_scalars_have_either_name() -> None:
    assert bound(GetWorkspacesRequest, "nameCaseSensitive=A").name_case_sensitive == "A"
    assert bound(GetWorkspacesRequest, "name_case_sensitive=A").name_case_sensitive == "A"


def test_lists_are_repetition_and_commas_are_text() -> None:
    request = bound(TaskLogsRequest, "agentIds=a,b&agentIds=c&rank_ids=1&rankIds=2")

    assert list(request.agent_ids) == ["a,b", "c"]
    assert list(request.rank_ids) == [1, 2]


def test_enums_are_names_or_numbers() -> None:
    request = bound(TaskLogsRequest, "levels=LOG_LEVEL_INFO&levels=5&orderBy=ORDER_BY_DESC")

    assert list(request.levels) == [LOG_LEVEL_INFO, LOG_LEVEL_ERROR]
    assert request.order_by == 2


@pytest.mark.parametrize("text", ["1", "t", "T", "true", "TRUE", "True"])
def test_true_has_many_forms(text: str) -> None:
    assert bound(TaskLogsRequest, f"follow={text}").follow


@pytest.mark.parametrize("text", ["0", "f", "F", "false", "FALSE", "False"])
def test_false_is_not_the_same_as_absent(text: str) -> None:
    request = bound(GetWorkspacesRequest, f"archived={text}")

    assert request.HasField("archived")
    assert request.archived.value is False
    assert not bound(GetWorkspacesRequest, "").HasField("archived")
    assert bound(GetUsersRequest, f"active={text}").HasField("active")


def test_times_are_decoded() -> None:
    request = bound(TaskLogsRequest, "timestampAfter=2026-01-02T05%3A04%3A05%2B02%3A00")

    assert request.timestamp_after.seconds == 1767323045


def test_nested_fields_are_reached_by_dots() -> None:
    request = bound(GetTrialProfilerMetricsRequest, "labels.name=gpu&labels.agentId=a&follow=true")

    assert (request.labels.name, request.labels.agent_id) == ("gpu", "a")


def test_maps_are_given_by_key() -> None:
    request = bound(PostWorkspaceRequest, "clusterQuotaPairs[a]=1&cluster_quota_pairs[b]=2")

    assert dict(request.cluster_quota_pairs) == {"a": 1, "b": 2}


def test_an_empty_value_is_one_empty_text() -> None:
    assert list(bound(TaskLogsRequest, "agentIds=").agent_ids) == [""]


def test_plus_and_percent_are_decoded() -> None:
    assert bound(TaskLogsRequest, "taskId=a+b%2Bc").task_id == "a b+c"


@pytest.mark.parametrize(
    "query", ["nonsense=1", "labels.nonsense=1", "labels.name.x=1", "pretty", "a[b]=c", "=x", "&&"]
)
def test_unknown_names_are_ignored(query: str) -> None:
    request = bound(GetTrialProfilerMetricsRequest, query)

    assert request == GetTrialProfilerMetricsRequest()


@pytest.mark.parametrize(
    "query",
    [
        "limit=1&limit=1",
        "limit=x",
        "limit=",
        "follow=maybe",
        "levels=LOUD",
        "rankIds=1.5",
        "timestampAfter=now",
        "taskId=%ff",
        "taskId[x]=1",
    ],
)
def test_what_cannot_be_read_is_refused(query: str) -> None:
    with pytest.raises(InvalidArgument):
        bound(TaskLogsRequest, query)


def test_a_map_or_an_object_without_its_form_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"name\[key\]=value"):
        bound(PostWorkspaceRequest, "clusterQuotaPairs=1")
    with pytest.raises(InvalidArgument, match="an object cannot be given"):
        bound(GetTrialProfilerMetricsRequest, "labels=1")


def test_fields_of_path_and_body_are_not_taken_from_the_query() -> None:
    request = bound(PatchUserRequest, "userId=7&user.username=x", taken={"user_id", "user"})

    assert request == PatchUserRequest()


def test_a_path_parameter_may_lie_inside_a_message() -> None:
    request = ReportTrialMetricsRequest()

    bind_path(request, "metrics.trial_id", "7")

    assert request.metrics.trial_id == 7


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_route_leads_to_its_rpc(name: str) -> None:
    method = METHODS[name]
    path = "/".join("v%2F7" if part.startswith("{") else part for part in method.path.split("/"))

    match = Routes(METHODS.values()).find(method.verb, path)

    assert match is not None
    assert match.method is method
    assert set(match.parameters.values()) <= {"v/7"}
    assert len(match.parameters) == method.path.count("{")


def test_a_fixed_segment_is_left_again_when_it_leads_nowhere() -> None:
    routes = Routes(METHODS.values())

    match = routes.find("GET", "/api/v1/users/setting/by-username")

    assert match is not None
    assert match.parameters == {"username": "setting"}
