"""Which checkpoints a policy keeps."""

from __future__ import annotations

import pytest

from shipway_master.checkpoints.policy import Candidate, Policy, choose_removed, read_policy
from shipway_master.checkpoints.state import CheckpointState, after_removal

NONE = Policy(save_experiment_best=0, save_trial_best=0, save_trial_latest=0)


def make(uuid: str, trial_id: int, badness: float | None, *, is_whole: bool = True) -> Candidate:
    """Make a candidate whose UUID ends with its number."""
    return Candidate(
        uuid=uuid, trial_id=trial_id, number=int(uuid[1:]), badness=badness, is_whole=is_whole
    )


TWO_TRIALS = [
    make("a1", 1, 0.9),
    make("a2", 1, 0.1),
    make("b3", 2, 0.2),
    make("b4", 2, 0.3),
    make("a5", 1, 0.5),
    make("b6", 2, None),
]


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        pytest.param(NONE, set[str](), id="nothing"),
        pytest.param(Policy(save_trial_best=0, save_trial_latest=1), {"a5", "b6"}, id="latest"),
        pytest.param(Policy(save_trial_best=1, save_trial_latest=0), {"a2", "b3"}, id="best"),
        pytest.param(
            Policy(save_experiment_best=2, save_trial_best=0, save_trial_latest=0),
            {"a2", "b3"},
            id="best of all trials",
        ),
        pytest.param(Policy(), {"a2", "b3", "a5", "b6"}, id="as by default"),
        pytest.param(
            Policy(save_experiment_best=9, save_trial_best=0, save_trial_latest=0),
            {"a1", "a2", "b3", "b4", "a5"},
            id="what was not measured is never among the best",
        ),
    ],
)
def test_what_is_kept(policy: Policy, kept: set[str]) -> None:
    removed = {one.uuid for one in choose_removed(TWO_TRIALS, policy)}

    assert {one.uuid for one in TWO_TRIALS} - removed == kept


def test_of_equally_good_ones_the_older_stays() -> None:
    candidates = [make("a1", 1, 0.5), make("a2", 1, 0.5)]

    removed = choose_removed(candidates, Policy(save_trial_best=1, save_trial_latest=0))

    assert [one.uuid for one in removed] == ["a2"]


def test_a_trial_keeps_what_it_can_go_on_from_rather_than_a_newer_piece() -> None:
    candidates = [make("a1", 1, None), make("a2", 1, None, is_whole=False)]

    assert [one.uuid for one in choose_removed(candidates, Policy())] == ["a2"]


def test_what_a_configuration_leaves_out_has_its_default() -> None:
    assert read_policy({"type": "s3", "save_trial_best": 0, "save_trial_latest": None}) == Policy(
        save_experiment_best=0, save_trial_best=0, save_trial_latest=1
    )


@pytest.mark.parametrize(
    ("state", "left", "expected"),
    [
        ("COMPLETED", {}, "DELETED"),
        ("COMPLETED", {"a": 1}, "PARTIALLY_DELETED"),
        ("COMPLETED", {"a": 1, "b": 2}, "COMPLETED"),
        ("COMPLETED", {"a": 1, "b": 2, "c": 3}, "COMPLETED"),
        ("PARTIALLY_DELETED", {"a": 1, "b": 2}, "PARTIALLY_DELETED"),
        ("DELETED", {"a": 1, "b": 2}, "DELETED"),
    ],
)
def test_what_the_files_that_are_left_say(state: str, left: dict[str, int], expected: str) -> None:
    assert after_removal(CheckpointState(state), {"a": 1, "b": 2}, left).value == expected
