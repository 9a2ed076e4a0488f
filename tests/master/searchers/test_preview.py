"""PreviewHPSearch, over REST and gRPC."""

from __future__ import annotations

from typing import Any

import pytest

from shipway_master.structs import to_struct
from shipway_proto.determined.api.v1.experiment_pb2 import PreviewHPSearchRequest
from tests.master.running import MasterUnderTest
from tests.proto.required import missing_required

ADAPTIVE = {
    "name": "adaptive_asha",
    "metric": "loss",
    "max_trials": 64,
    "max_time": 64,
    "time_metric": "epochs",
}
RATE = {"type": "log", "minval": -4, "maxval": -1, "base": 10}


async def preview(master: MasterUnderTest, config: Any) -> Any:
    """Ask what a configuration would give."""
    answer = await master.call("POST", "/preview-hp-search", {"config": config}, token="user")
    assert answer.status == 200, answer.body
    assert missing_required("determined.api.v1.PreviewHPSearchResponse", answer.json) == []
    return answer.json["summary"]


async def test_trials_are_counted_by_how_long_they_train(master: MasterUnderTest) -> None:
    summary = await preview(master, {"searcher": ADAPTIVE, "hyperparameters": {"rate": RATE}})

    units = [(one["count"], one["unit"]["value"], one["unit"]["name"]) for one in summary["trials"]]
    assert units == [(34, 1, "epochs"), (20, 4, "epochs"), (7, 16, "epochs"), (3, 64, "epochs")]
    assert not any(one["unit"]["maxLength"] for one in summary["trials"])
    assert summary["config"] == {
        **ADAPTIVE,
        "mode": "standard",
        "divisor": 4,
        "max_rungs": 5,
        "bracket_rungs": [],
        "max_concurrent_trials": 16,
        "smaller_is_better": True,
        "source_trial_id": None,
        "source_checkpoint_uuid": None,
    }


@pytest.mark.parametrize(
    ("searcher", "count"),
    [({"name": "single"}, 1), ({"name": "random", "max_trials": 7}, 7), ({"name": "grid"}, 6)],
    ids=["single", "random", "grid"],
)
async def test_trials_that_train_to_completion(
    master: MasterUnderTest, searcher: Any, count: int
) -> None:
    space = {"a": {**RATE, "count": 3}, "b": {"c": {"type": "categorical", "vals": [1, None]}}}

    summary = await preview(
        master, {"searcher": {**searcher, "metric": "loss"}, "hyperparameters": space, "name": "x"}
    )

    (trials,) = summary["trials"]
    assert (trials["count"], trials["unit"]["maxLength"]) == (count, True)


async def test_a_configuration_without_hyperparameters(master: MasterUnderTest) -> None:
    single = {"name": "single", "metric": "loss"}

    for config in ({"searcher": single}, {"searcher": single, "hyperparameters": None}):
        assert (await preview(master, config))["trials"][0]["count"] == 1


async def test_a_time_beyond_the_field_is_the_longest_it_can_hold(master: MasterUnderTest) -> None:
    searcher = {**ADAPTIVE, "max_time": 10**15, "max_trials": 1}

    summary = await preview(master, {"searcher": searcher})

    assert summary["trials"][0]["unit"]["value"] == 2**31 - 1


async def test_grpc_says_the_same(master: MasterUnderTest) -> None:
    config = to_struct({"searcher": ADAPTIVE})

    answer = await master.stub.PreviewHPSearch(
        PreviewHPSearchRequest(config=config, seed=7), metadata=master.grpc_auth()
    )

    assert [trials.count for trials in answer.summary.trials] == [34, 20, 7, 3]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "searcher: missing"),
        ({"searcher": None}, "searcher: missing"),
        ({"searcher": {**ADAPTIVE, "name": "custom"}}, "searcher: the 'custom' searcher has been"),
        (
            {"searcher": {**ADAPTIVE, "max_trials": "3"}},
            "searcher.max_trials: it must be a whole number, not '3'",
        ),
        (
            {"searcher": {**ADAPTIVE, "max_trial": 3}},
            "searcher.max_trial: unknown key; did you mean max_trials?",
        ),
        (
            {
                "searcher": {"name": "grid", "metric": "x"},
                "hyperparameters": {"o": {"rate": RATE}, "n": {"type": "intt"}},
            },
            "hyperparameters.n: there is no type 'intt'",
        ),
        (
            {
                "searcher": {"name": "grid", "metric": "x"},
                "hyperparameters": {"o": {"rate": RATE}},
            },
            "hyperparameters.o.rate.count: a grid needs",
        ),
    ],
    ids=["empty", "null", "custom", "number", "unknown", "type", "grid"],
)
async def test_what_is_wrong_is_told_by_its_key(
    master: MasterUnderTest, config: Any, said: str
) -> None:
    answer = await master.call("POST", "/preview-hp-search", {"config": config})

    assert answer.status == 400
    assert said in answer.error["error"]


async def test_nobody_unknown_may_ask(master: MasterUnderTest) -> None:
    assert (await master.call("POST", "/preview-hp-search", {}, token=None)).status == 401
