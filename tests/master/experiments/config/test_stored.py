"""Stored configurations: secrets hidden, and what may change when an experiment goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shipway_master.experiments.config import (
    BadExperimentConfig,
    load_experiment_config,
    mask_secrets,
    mask_text,
    override,
    parse_checkpoint_storage,
)
from tests.master.experiments.config.building import experiment, parse, plain

SECRET = experiment(
    environment={
        "registry_auth": {"username": "anna", "password": "hidden", "identitytoken": "hidden"},
        "environment_variables": ["TOKEN=visible"],
    },
    checkpoint_storage={
        "type": "s3",
        "bucket": "b",
        "access_key": "hidden",
        "secret_key": "hidden",
    },
    data={"secrets": {"token": "hidden", "deep": {"x": "hidden"}, "none": None}, "token": "seen"},
    integrations={
        "pachyderm": {
            "pachd": {"host": "h", "port": 1},
            "proxy": {"scheme": "http", "host": "h", "port": 1},
            "dataset": {
                "project": "p",
                "repo": "r",
                "commit": "c",
                "branch": "b",
                "token": "hidden",
            },
        }
    },
)

GRID = experiment(
    searcher={"name": "grid", "metric": "x"},
    hyperparameters={"a": {"type": "categorical", "vals": [1]}},
)


def test_secrets_are_hidden_unless_they_are_asked_for() -> None:
    config = parse(SECRET)
    assert "hidden" in json.dumps(config.to_plain(reveal=True))
    shown = config.to_plain(reveal=False)
    assert "hidden" not in json.dumps(shown)
    assert shown["environment"]["registry_auth"]["username"] == "anna"
    assert shown["environment"]["registry_auth"]["password"] == "********"
    assert shown["checkpoint_storage"]["bucket"] == "b"
    assert shown["checkpoint_storage"]["endpoint_url"] is None
    assert shown["data"] == {
        "secrets": {"token": "********", "deep": "********", "none": None},
        "token": "seen",
    }
    assert mask_secrets(shown) == shown
    assert "hidden" not in repr(config.checkpoint_storage)
    assert "hidden" not in repr(config.environment)


@pytest.mark.parametrize(
    "storage",
    [
        {"type": "azure", "container": "c", "connection_string": "hidden"},
        {"type": "azure", "container": "c", "account_url": "u", "credential": "hidden"},
    ],
    ids=["connection string", "credential"],
)
def test_secrets_of_azure(storage: dict[str, Any]) -> None:
    assert "hidden" not in json.dumps(
        parse(experiment(checkpoint_storage=storage)).to_plain(reveal=False)
    )


def test_a_log_of_the_master_s_settings_hides_them() -> None:
    storage = parse_checkpoint_storage(SECRET["checkpoint_storage"])
    assert "hidden" in storage.model_dump_json()
    shown = storage.model_dump(mode="json", context={"for_log": True})
    assert "hidden" not in json.dumps(shown)
    assert (shown["bucket"], shown["prefix"]) == ("b", None)


def test_the_text_as_its_user_wrote_it() -> None:
    text = "# mine\nname: x\ndata: {secret: shown}\n"
    assert mask_text(text) == text
    masked = json.loads(mask_text(json.dumps(SECRET)))
    assert "hidden" not in json.dumps(masked)
    assert masked["searcher"] == SECRET["searcher"]
    assert mask_text("data: {secrets: hidden}") == '{"data": {"secrets": "********"}}'
    assert mask_text("- a") == "- a"
    assert mask_text("data: {secrets: {a: hidden") == "********"


def test_an_experiment_goes_on_with_other_values() -> None:
    stored = plain(experiment(name="mine", hyperparameters={"a": 1, "b": 2}, labels=["x"]))
    changed = override(
        stored,
        "hyperparameters: {a: 5}\nlabels: [y]\nresources: {slots_per_trial: 0}\n"
        "searcher: {max_length: {batches: 7}}\ncheckpoint_storage: {save_trial_best: 9}\n",
    ).to_plain(reveal=True)
    expected = {
        **stored,
        "hyperparameters": {
            "a": {"type": "const", "val": 5},
            "b": {"type": "const", "val": 2},
        },
        "labels": ["y", "x"],
        "resources": {**stored["resources"], "slots_per_trial": 0},
        "searcher": {**stored["searcher"], "max_length": {"batches": 7}},
        "checkpoint_storage": {**stored["checkpoint_storage"], "save_trial_best": 9},
    }
    assert changed == expected


@pytest.mark.parametrize("text", ["", "  \n", "{}", "# nothing\n{}"])
@pytest.mark.parametrize("source", [experiment(), GRID], ids=["single", "grid"])
def test_it_goes_on_as_it_was(source: dict[str, Any], text: str) -> None:
    stored = plain(source)
    assert override(stored, text).to_plain(reveal=True) == stored


def test_defaults_of_the_pool_are_not_put_in_again() -> None:
    source = experiment(
        environment={"environment_variables": ["A=1"]}, slurm={"sbatch_args": ["--a"]}
    )
    again = override(plain(source), "max_restarts: 1").to_plain(reveal=True)
    assert again["environment"]["environment_variables"]["cpu"] == ["A=1"]
    assert again["slurm"] == {"sbatch_args": ["--a"]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("project: x", "override config: project: it cannot be changed here; .*experiment move"),
        ("workspace: x", "override config: workspace: it cannot be changed here"),
        (
            "searcher: {name: random, max_trials: 3}",
            "override config: searcher.name: it cannot be changed; it is single",
        ),
        ("nme: x", "override config: nme: unknown key; did you mean name?"),
        ("a: [", "override config: not YAML"),
        ("[]", "override config: it must be a mapping"),
        ("hyperparameters: {a: {type: int}}", "hyperparameters.a.minval: missing"),
    ],
)
def test_what_may_not_change(text: str, told: str) -> None:
    with pytest.raises(BadExperimentConfig, match=told.replace("?", r"\?").replace("[", r"\[")):
        override(plain(experiment()), text)


def test_a_search_goes_on_only_as_it_was() -> None:
    with pytest.raises(BadExperimentConfig, match=r"only .* single can go on changed; .* has grid"):
        override(plain(GRID), "max_restarts: 1")


def test_what_was_not_stored_by_us_is_refused() -> None:
    with pytest.raises(BadExperimentConfig, match="stored config: nme: unknown key"):
        load_experiment_config({"nme": 1})
