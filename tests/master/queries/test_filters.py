"""Filters are read, and what is wrong in one is told with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shipway_master.errors import InvalidArgument
from shipway_master.queries.conditions import EXPERIMENTS, RUNS, compile_filter
from shipway_master.queries.filters import Condition, Conjunction, Group, Operator, parse_filter
from shipway_master.queries.sorting import compile_sort


def make_field(**changes: Any) -> dict[str, Any]:
    """Build a condition as the page writes it."""
    known = {"kind": "field", "id": "x", "columnName": "id", "operator": "=", "value": 1}
    return {**known, **changes}


def make_filter(*children: Any, conjunction: str = "and", **changes: Any) -> str:
    """Build a filter of one group."""
    group = {"kind": "group", "id": "ROOT", "conjunction": conjunction, "children": [*children]}
    return json.dumps({"filterGroup": group, "showArchived": False, **changes})


def test_groups_are_read_with_their_conditions() -> None:
    inner = {"kind": "group", "conjunction": "or", "children": [make_field(value=True)]}

    found = parse_filter(make_filter(make_field(), inner, showArchived=True))

    first, second = found.group.children
    assert found.shows_archived
    assert isinstance(first, Condition)
    assert (first.column, first.operator, first.value) == ("id", Operator.EQUAL, 1.0)
    assert isinstance(second, Group)
    assert second.conjunction is Conjunction.OR


def test_a_condition_that_lacks_its_value_yet_is_left_out() -> None:
    found = parse_filter(make_filter(make_field(value=None)))

    assert found.group.children == []


def _nested(depth: int) -> dict[str, Any]:
    node: dict[str, Any] = make_field()
    for _ in range(depth):
        node = {"kind": "group", "conjunction": "and", "children": [node]}
    return node


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "filter: not JSON"),
        ("[]", "filter: not an object"),
        ("{}", "filter: filterGroup is missing"),
        ("[" * 100_000, "filter: not JSON"),
        ('{"filterGroup": NaN}', "NaN is no value"),
        (make_filter(showArchived="yes"), "showArchived: neither true nor false"),
        (make_filter(3), "filterGroup.children[0]: not an object"),
        (make_filter({}), "children[0].kind: nothing is none of field, group"),
        (make_filter(make_field(operator="~")), "children[0].operator: '~' is none of =, !="),
        (make_filter(make_field(), make_field(columnName=7)), "children[1].columnName: not the"),
        (make_filter(make_field(value={"a": 1})), "children[0].value: neither text nor"),
        (make_filter(make_field(value=10**400)), "children[0].value: too large"),
        (make_filter(make_field(value="\ud800")), "children[0].value: half of a character"),
        (make_filter(make_field(location="MARS")), "children[0].location: 'MARS' is none of"),
        (make_filter(make_field(type=["x"])), "children[0].type: ['x'] is none of"),
        (make_filter(conjunction="nor"), "filterGroup.conjunction: 'nor' is none of and, or"),
        (make_filter(_nested(30)), "more than 20 levels"),
        (make_filter(*[make_field()] * 501), "more than 500 conditions"),
    ],
    ids=range(18),
)
def test_what_is_malformed_is_told_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_filter(text)

    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ({"columnName": "no such"}, "there is no column 'no such'"),
        ({"columnName": "startTime", "value": "noon"}, "'noon' is not a moment"),
        ({"columnName": "startTime", "operator": "contains"}, "moments contain nothing"),
        ({"columnName": "numTrials", "value": "many"}, "'many' is not a number"),
        ({"columnName": "state", "operator": "<"}, "states have no order"),
        ({"columnName": "tags", "operator": ">"}, "lists have no order"),
        ({"columnName": "loss", "location": "LOCATION_TYPE_TRAINING"}, "no metric has the name"),
        (
            {"columnName": 'hp.a"b', "location": "LOCATION_TYPE_RUN_HYPERPARAMETERS"},
            "quotation marks",
        ),
    ],
    ids=range(8),
)
def test_what_cannot_be_compared_is_told(field: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        compile_filter(parse_filter(make_filter(make_field(**field))), EXPERIMENTS)


@pytest.mark.parametrize("text", ["id", "id=up", "=asc", "nothing=asc", "id=asc," * 30])
def test_malformed_sort_texts_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="sort: "):
        compile_sort(text, RUNS)
