"""Curves of trials side by side."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import urlencode

import pytest

from shipway_master.store.database import Database, opened
from tests.master.reporting import begin_trial, report
from tests.master.running import MasterUnderTest
from tests.proto.required import missing_required


@pytest.fixture
async def database(master: MasterUnderTest) -> AsyncGenerator[Database]:
    """Open the database beside the master."""
    async with opened(master.database_url) as database:
        yield database


@pytest.fixture
async def trials(master: MasterUnderTest, database: Database) -> list[int]:
    """Let two trials report, the second at one step."""
    first, second = [await begin_trial(database) for _ in range(2)]
    for step in range(1, 7):
        metrics = {"loss": 10 - step, "epoch": step // 2, "text": "x", "deep": {"er": step}}
        time = {"reportTime": f"2026-01-02T03:04:0{step}Z"}
        await report(master, first, metrics, steps=step, **time)
    await report(master, first, {"loss": "NaN"}, group="validation", steps=6)
    await report(master, first, {"node": {"free": 1.5}}, group="memory", steps=None)
    await report(master, second, {"loss": 1}, steps=3)
    return [first, second]


async def compare(master: MasterUnderTest, trials: list[int], **query: Any) -> list[Any]:
    """Compare, and check the form of the answer."""
    path = f"/trials/time-series?{urlencode({'trialIds': trials, **query}, doseq=True)}"
    answer = await master.call("GET", path)
    assert answer.status == 200, answer.body
    assert missing_required("determined.api.v1.CompareTrialsResponse", answer.json) == []
    assert [one["trial"]["id"] for one in answer.json["trials"]] == trials
    return [one["metrics"] for one in answer.json["trials"]]


def steps(curve: Any) -> list[int]:
    """Name the points of a curve by their steps."""
    return [point["batches"] for point in curve["data"]]


async def test_trials_are_compared(master: MasterUnderTest, trials: list[int]) -> None:
    [[first], [second]] = await compare(master, trials, metricNames="loss", group="training")
    assert first["group"] == "training"
    assert [point["values"]["loss"] for point in first["data"]] == [9, 8, 7, 6, 5, 4]
    assert first["data"][1]["time"] == "2026-01-02T03:04:02Z"
    assert [point["epoch"] for point in first["data"]] == [0, 1, 1, 2, 2, 3]
    assert [point["values"] for point in second["data"]] == [{"loss": 1}]

    [everything, _] = await compare(master, trials)
    groups = {curve["group"]: curve["data"][-1]["values"] for curve in everything}
    assert groups == {
        "training": {"loss": 4, "epoch": 3, "deep.er": 6},
        "validation": {"loss": "NaN"},
        "memory": {"node.free": 1.5},
    }

    [named, none] = await compare(
        master, trials, metricIds=["training.deep.er", "memory.node.free"]
    )
    assert [(one["group"], len(one["data"])) for one in named] == [("training", 6), ("memory", 1)]
    assert none == []

    [[old], _] = await compare(
        master, trials, metricNames="loss", metricType="METRIC_TYPE_VALIDATION"
    )
    assert (old["group"], old["type"]) == ("validation", "METRIC_TYPE_VALIDATION")


async def test_ranges_and_numbers_of_points(master: MasterUnderTest, trials: list[int]) -> None:
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({"maxDatapoints": 3}, [1, 2, 6]),
        ({"startBatches": 2, "endBatches": 4}, [2, 3, 4]),
        (_filter("batches", "integerRange", gte=5), [5, 6]),
        (_filter("batches", "integerRange", incl=[2, 4]), [2, 4]),
        (_filter("batches", "integerRange", notIn=[2, 4], lt=5), [1, 3]),
        (_filter("batches", "doubleRange", gt=1.5, lte=2.5), [2]),
        (_filter("time", "timeRange", gt="2026-01-02T03:04:04.5Z"), [5, 6]),
        (_filter("epoch", "integerRange", lt=1), [1]),
        (_filter("loss", "doubleRange", lt=6), [5, 6]),
    ]
    for query, expected in cases:
        [[curve], *_] = await compare(master, trials, metricNames="loss", group="training", **query)
        assert (query, steps(curve)) == (query, expected) or query == {"maxDatapoints": 3}
        assert len(steps(curve)) == len(expected)


def _filter(name: str, kind: str, **bounds: Any) -> dict[str, Any]:
    filters = {f"timeSeriesFilter.{kind}.{bound}": value for bound, value in bounds.items()}
    return {"timeSeriesFilter.name": name, **filters}
