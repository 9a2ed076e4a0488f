"""A hyperparameter search by the stock command and harness."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Site
from tests.e2e.experiments import create, fetch_steps, fetch_trials, wait_for_end, write_config

SEARCHER = {
    "name": "adaptive_asha",
    "metric": "val",
    "time_metric": "epochs",
    "max_time": 16,
    "max_trials": 16,
    "mode": "aggressive",
}


@pytest.mark.timeout(240)  # sixteen trials, each of which imports the harness
def test_a_search_stops_bad_trials_and_trains_good_ones_to_the_end(
    site: Site, tmp_path: Path
) -> None:
    config = write_config(
        tmp_path,
        "python epochs.py",
        hyperparameters={"x": {"type": "double", "minval": 0, "maxval": 1}},
        searcher=SEARCHER,
        reproducibility={"experiment_seed": 7},
    )

    number = create(site, config)
    experiment = wait_for_end(site.api, number, limit_s=200)

    trials = fetch_trials(site.api, number)
    assert experiment["state"] == "STATE_COMPLETED"
    assert experiment["progress"] == 1
    assert [trial["state"] for trial in trials] == ["STATE_COMPLETED"] * 16
    epochs = {trial["id"]: fetch_steps(site.api, trial["id"], "validation") for trial in trials}
    best = min(trials, key=lambda trial: trial["hparams"]["x"])
    assert epochs[best["id"]] == [1, 4, 16]
    assert sum(one[-1] < 16 for one in epochs.values()) > 4
    listed = site.det.run("experiment", "list-trials", str(number)).stdout
    assert listed.count("COMPLETED") == 16
