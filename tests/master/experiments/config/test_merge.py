"""Template, defaults of the pool and storages below what a user says."""

from __future__ import annotations

from typing import Any, cast

import pytest

from shipway_master.experiments.config import BadExperimentConfig, Site, read_experiment
from tests.master.experiments.config.building import SEED, defaults, experiment, parse, plain

MERGED: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "a section key by key": (
        {"resources": {"slots_per_trial": 2}},
        {"resources": {"slots_per_trial": 3, "weight": 5}},
        {"resources": {"slots_per_trial": 2, "weight": 5}},
    ),
    "null gives way": (
        {"resources": {"slots_per_trial": None}, "max_restarts": None},
        {"resources": {"slots_per_trial": 3}, "max_restarts": 1},
        {"resources": {"slots_per_trial": 3}, "max_restarts": 1},
    ),
    "a default counts if it was written": (
        {"resources": {"slots_per_trial": 1}, "debug": False, "max_restarts": 5},
        {"resources": {"slots_per_trial": 3}, "debug": True, "max_restarts": 1},
        {"resources": {"slots_per_trial": 1}, "debug": False, "max_restarts": 5},
    ),
    "labels": ({"labels": ["b", "a"]}, {"labels": ["c", "b"]}, {"labels": ["b", "a", "c"]}),
    "data, all the way down": (
        {"data": {"a": {"x": 1, "n": None}, "l": [1], "t": {"k": 1}}},
        {"data": {"a": {"x": 2, "y": 2, "n": 3}, "l": [2, 3], "t": 5, "z": 0}},
        {"data": {"a": {"x": 1, "y": 2, "n": 3}, "l": [1], "t": {"k": 1}, "z": 0}},
    ),
    "a length as a whole": (
        {"min_validation_period": {"epochs": 1}},
        {"min_validation_period": {"batches": 5}},
        {"min_validation_period": {"epochs": 1}},
    ),
    "mounts by the path in the container": (
        {"bind_mounts": [{"host_path": "/a", "container_path": "/x"}]},
        {
            "bind_mounts": [
                {"host_path": "/b", "container_path": "/y"},
                {"host_path": "/c", "container_path": "/x"},
            ]
        },
        {
            "bind_mounts": [
                {"host_path": "/a", "container_path": "/x", "read_only": False},
                {"host_path": "/b", "container_path": "/y", "read_only": False},
            ]
        },
    ),
    "devices in either form": (
        {"resources": {"devices": ["/a:/x", {"host_path": "/b", "container_path": "/y"}]}},
        {"resources": {"devices": ["/c:/x:r", "/d:/z:r"]}},
        {
            "resources": {
                "devices": [
                    {"host_path": "/a", "container_path": "/x", "mode": "mrw"},
                    {"host_path": "/b", "container_path": "/y", "mode": "mrw"},
                    {"host_path": "/d", "container_path": "/z", "mode": "r"},
                ]
            }
        },
    ),
    "variables of the template first": (
        {"environment": {"environment_variables": ["A=high"]}},
        {"environment": {"environment_variables": {"cpu": ["A=low"], "gpu": ["G=1"]}}},
        {
            "environment": {
                "environment_variables": {
                    "cpu": ["A=low", "A=high"],
                    "cuda": ["G=1", "A=high"],
                    "rocm": ["A=high"],
                }
            }
        },
    ),
    "images by slot type": (
        {"environment": {"image": {"cpu": "a"}}},
        {"environment": {"image": "b"}},
        {"environment": {"image": {"cpu": "a", "cuda": "b", "rocm": "b"}}},
    ),
    "ports by name and by number": (
        {"environment": {"ports": {"a": 1}, "proxy_ports": [{"proxy_port": 5}]}},
        {
            "environment": {
                "ports": {"a": 2, "b": 3},
                "proxy_ports": [{"proxy_port": 5, "proxy_tcp": True}, {"proxy_port": 6}],
            }
        },
        {"environment": {"ports": {"a": 1, "b": 3}}},
    ),
    "credentials as a whole": (
        {"environment": {"registry_auth": {"username": "a"}}},
        {"environment": {"registry_auth": {"username": "b", "password": "c"}}},
        {"environment": {"registry_auth": {"username": "a"}}},
    ),
    "lists are replaced": (
        {"environment": {"add_capabilities": ["A"]}, "slurm": {"sbatch_args": ["--a"]}},
        {
            "environment": {"add_capabilities": ["B"], "drop_capabilities": ["C"]},
            "slurm": {"sbatch_args": ["--b"], "gpu_type": "t"},
        },
        {
            "environment": {"add_capabilities": ["A"], "drop_capabilities": ["C"]},
            "slurm": {"sbatch_args": ["--a"], "gpu_type": "t"},
        },
    ),
    "hyperparameters are replaced, their names merged": (
        {"hyperparameters": {"a": {"type": "int", "minval": 1, "maxval": 2}, "n": {"x": None}}},
        {
            "hyperparameters": {
                "a": {"type": "int", "minval": 5, "maxval": 9, "count": 2},
                "n": {"x": 1, "y": 2},
            }
        },
        {
            "hyperparameters": {
                "a": {"type": "int", "minval": 1, "maxval": 2},
                "n": {"x": {"type": "const", "val": None}, "y": {"type": "const", "val": 2}},
            }
        },
    ),
    "a value instead of names": (
        {"hyperparameters": {"a": 1, "b": {"c": 1}}},
        {"hyperparameters": {"a": {"x": 1}, "b": 2}},
        {
            "hyperparameters": {
                "a": {"type": "const", "val": 1},
                "b": {"c": {"type": "const", "val": 1}},
            }
        },
    ),
    "a searcher of the same name": (
        {"searcher": {"metric": "mine"}},
        {"searcher": {"name": "random", "max_trials": 3, "smaller_is_better": False}},
        {"searcher": {"name": "random", "max_trials": 3, "smaller_is_better": False}},
    ),
    "of another searcher only what all have": (
        {"searcher": {"name": "single", "metric": "mine"}},
        {"searcher": {"name": "random", "max_trials": 3, "source_trial_id": 7}},
        {"searcher": {"name": "single", "metric": "mine", "source_trial_id": 7}},
    ),
    "policies by name, those of the older form by what they do": (
        {
            "log_policies": [
                {"name": "one", "pattern": "a", "action": "exclude_node"},
                {"pattern": "b", "action": "cancel_retries"},
                {"name": "ECC Error"},
            ]
        },
        {
            "log_policies": [
                {"name": "one", "pattern": "aa"},
                {"name": "two", "pattern": "a"},
                {"pattern": "b", "action": {"type": "cancel_retries"}},
                {"pattern": "b", "action": "exclude_node"},
            ]
        },
        {
            "log_policies": [
                {"name": "one", "pattern": "a", "action": "exclude_node"},
                {"pattern": "b", "action": "cancel_retries"},
                {"name": "ECC Error"},
                {"name": "two", "pattern": "a"},
                {"pattern": "b", "action": "exclude_node"},
                {"name": "CUDA OOM", "pattern": ".*CUDA out of memory.*"},
            ]
        },
    ),
}

STORED: dict[str, tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]] = {
    "of the same type, key by key": (
        {"type": "gcs", "bucket": "mine"},
        [{"type": "gcs", "bucket": "b", "prefix": "p", "save_trial_best": 4}],
        {"type": "gcs", "bucket": "mine", "prefix": "p", "save_trial_best": 4},
    ),
    "of another type only what stays": (
        {"type": "shared_fs", "host_path": "/a"},
        [{"type": "s3", "bucket": "b", "save_trial_latest": 9}],
        {"type": "shared_fs", "host_path": "/a", "save_trial_latest": 9},
    ),
    "only what stays": (
        {"save_experiment_best": 3},
        [{"type": "directory", "container_path": "/d", "save_experiment_best": 1}],
        {"type": "directory", "container_path": "/d", "save_experiment_best": 3},
    ),
    "the workspace's before the master's": (
        {},
        [{"type": "gcs", "bucket": "w"}, {"type": "gcs", "bucket": "m", "prefix": "p"}],
        {"type": "gcs", "bucket": "w", "prefix": "p"},
    ),
    "an account of Azure as a whole": (
        {"type": "azure", "account_url": "https://mine"},
        [{"type": "azure", "container": "c", "connection_string": "theirs"}],
        {"type": "azure", "container": "c", "account_url": "https://mine"},
    ),
    "the master's account of Azure": (
        {"type": "azure"},
        [{"type": "azure", "container": "c", "connection_string": "theirs"}],
        {"type": "azure", "container": "c", "connection_string": "theirs"},
    ),
    "null gives way": (
        {"type": None, "bucket": None},
        [{"type": "s3", "bucket": "b", "prefix": None, "secret_key": "s"}],
        {"type": "s3", "bucket": "b", "prefix": None, "secret_key": "s"},
    ),
}


def contains(whole: Any, part: Any) -> bool:
    """Say whether all keys of *part*, sections within each other, are so in *whole*."""
    if type(whole) is not type(part):
        return bool(whole == part)
    if isinstance(part, dict):
        keys = cast("list[str]", list(cast("Any", part)))
        return all(key in whole and contains(whole[key], part[key]) for key in keys)
    if isinstance(part, list):
        pairs = zip(cast("list[Any]", whole), cast("list[Any]", part), strict=False)
        return len(whole) == len(cast("Any", part)) and all(contains(*pair) for pair in pairs)
    return bool(whole == part)


@pytest.mark.parametrize(("high", "low", "merged"), MERGED.values(), ids=MERGED)
def test_a_template(high: dict[str, Any], low: dict[str, Any], merged: dict[str, Any]) -> None:
    base = {"entrypoint": "x", "searcher": {"name": "single", "metric": "loss"}}
    read = plain({**base, **high}, template=low)
    assert contains(read, merged), {key: read[key] for key in merged}


def test_what_a_template_replaces_is_gone() -> None:
    high, low, _ = MERGED["hyperparameters are replaced, their names merged"]
    assert "count" not in plain(experiment(**high), template=low)["hyperparameters"]["a"]
    high, low, _ = MERGED["of another searcher only what all have"]
    assert "max_trials" not in plain(experiment(**high), template=low)["searcher"]


def test_a_template_can_have_all_that_is_needed() -> None:
    assert plain("{}", template=experiment(name="theirs"))["name"] == "theirs"
    assert plain("description: x", template="name: theirs\n" + YAML)["name"] == "theirs"


YAML = "entrypoint: x\nsearcher: {name: single, metric: loss}\n"


def test_defaults_of_the_pool() -> None:
    below = defaults(
        image={"cpu": "default"},
        environment_variables=["A=low"],
        registry_auth={"username": "low"},
        force_pull_image=True,
        add_capabilities=["A"],
        bind_mounts=[{"host_path": "/low", "container_path": "/x"}],
        devices=["/low:/d"],
        slurm={"gpu_type": "tesla", "slots_per_node": 2, "sbatch_args": ["--low"]},
        log_policies=[{"name": "low", "pattern": "x"}],
        preemption_timeout=7,
        shm_size_bytes=1,
    )
    bare = plain(experiment(), below=below)
    assert bare["environment"]["image"] == {"cpu": "default", "cuda": "", "rocm": ""}
    assert bare["environment"]["registry_auth"] == {"username": "low"}
    assert bare["environment"]["force_pull_image"] is True
    assert [one["host_path"] for one in bare["bind_mounts"]] == ["/low"]
    assert bare["slurm"] == {"gpu_type": "tesla", "slots_per_node": 2, "sbatch_args": ["--low"]}
    assert (bare["log_policies"][0]["name"], bare["preemption_timeout"]) == ("low", 7)
    assert bare["resources"]["shm_size"] is None  # put in when the container is started

    own = plain(
        experiment(
            environment={"image": "mine", "environment_variables": ["A=high"]},
            bind_mounts=[{"host_path": "/high", "container_path": "/x"}],
            resources={"devices": ["/high:/e"]},
            slurm={"sbatch_args": ["--high"], "slots_per_node": 4},
            preemption_timeout=9,
        ),
        below=below,
    )
    assert own["environment"]["image"] == dict.fromkeys(("cpu", "cuda", "rocm"), "mine")
    assert own["environment"]["environment_variables"]["cpu"] == ["A=low", "A=high"]
    assert [one["host_path"] for one in own["bind_mounts"]] == ["/high"]
    assert [one["host_path"] for one in own["resources"]["devices"]] == ["/high", "/low"]
    assert own["slurm"] == {
        "gpu_type": "tesla",
        "slots_per_node": 4,
        "sbatch_args": ["--low", "--high"],
    }
    assert own["preemption_timeout"] == 9


@pytest.mark.parametrize(("own", "below", "merged"), STORED.values(), ids=STORED)
def test_storages(own: dict[str, Any], below: list[dict[str, Any]], merged: dict[str, Any]) -> None:
    draft = read_experiment(experiment(checkpoint_storage=own))
    storage = draft.complete(Site(seed=SEED, storages=below)).to_plain(reveal=True)
    stored = storage["checkpoint_storage"]
    assert contains(stored, merged), stored
    assert "connection_string" not in stored or "account_url" not in stored


def test_a_draft_says_where_the_experiment_is_to_be() -> None:
    draft = read_experiment(
        "workspace: w\nresources: {slots_per_trial: 0, is_single_node: yes}\n" + YAML,
        template={"project": "p", "resources": {"resource_pool": "gpus", "slots_per_trial": 3}},
    )
    assert (draft.workspace, draft.project, draft.resource_pool) == ("w", "p", "gpus")
    assert (draft.slots_per_trial, draft.is_single_node) == (0, True)


def test_a_pool_gives_the_priority() -> None:
    draft = read_experiment(YAML)
    site = Site(seed=SEED, storages=[{"type": "gcs", "bucket": "b"}], priority=42)
    assert draft.complete(site).resources.priority == 42
    assert parse(experiment(resources={"priority": 3})).resources.priority == 3


def test_a_template_may_have_slots_of_commands() -> None:
    assert "slots" not in plain(experiment(), template="resources: {slots: 2}")["resources"]
    with pytest.raises(BadExperimentConfig, match=r"resources\.slots: unknown key; .*per_trial"):
        parse(experiment(resources={"slots": 2}))
