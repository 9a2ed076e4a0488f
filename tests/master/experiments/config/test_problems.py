"""Configurations that cannot be: all mistakes at once, by key, and nothing but that."""

from __future__ import annotations

import copy
import json
import random
from typing import Any, cast

import pytest

from shipway_master.experiments.config import BadExperimentConfig, parse_checkpoint_storage
from tests.master.experiments.config.building import experiment, parse
from tests.master.experiments.config.test_defaults import FULL

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"nme": 1}, "nme: unknown key; did you mean name?"),
    "unknown in a section": (
        {"resources": {"slot_per_trial": 1}},
        "resources.slot_per_trial: unknown key; did you mean slots_per_trial?",
    ),
    "unknown far from any": (
        {"slurm": {"zzz": 1}},
        "slurm.zzz: unknown key; known are gpu_type, sbatch_args, slots_per_node",
    ),
    "unknown in a list": (
        {"bind_mounts": [{"host_path": "/a", "container_path": "/b", "readonly": True}]},
        "bind_mounts.0.readonly: unknown key; did you mean read_only?",
    ),
    "unknown in a searcher": (
        {"searcher": {"name": "random", "metric": "x", "max_trails": 3}},
        "searcher.max_trails: unknown key; did you mean max_trials?",
    ),
    "unknown in a hyperparameter": (
        {"hyperparameters": {"a": {"b": {"type": "int", "minvl": 1, "maxval": 2}}}},
        "hyperparameters.a.b.minvl: unknown key; did you mean minval?",
    ),
    "unknown in a storage": (
        {"checkpoint_storage": {"type": "s3", "buckt": "b"}},
        "checkpoint_storage.buckt: unknown key; did you mean bucket?",
    ),
    "of another section": (
        {"slots_per_trial": 3},
        "slots_per_trial: unknown key; did you mean resources.slots_per_trial?",
    ),
    "text for a number": (
        {"max_restarts": "5"},
        "max_restarts: it must be a whole number, not '5'",
    ),
    "part of a number": ({"max_restarts": 1.5}, "max_restarts: it must be a whole number, not 1.5"),
    "truth for a number": (
        {"max_restarts": True},
        "max_restarts: it must be a whole number, not true",
    ),
    "number for truth": ({"debug": 1}, "debug: it must be true or false, not 1"),
    "number for a text": ({"name": 5}, "name: it must be a text, not 5"),
    "list for a section": ({"resources": [1]}, "resources: it must be a mapping, not a list"),
    "text for a list": ({"labels": "a"}, "labels: it must be a list, not 'a'"),
    "too small": ({"max_restarts": -1}, "max_restarts: it must be at least 0, not -1"),
    "too large": ({"resources": {"priority": 100}}, "priority: it must be at most 99, not 100"),
    "no weight": ({"resources": {"weight": 0}}, "resources.weight: it must be more than 0, not 0"),
    "no choice": (
        {"checkpoint_policy": "beste"},
        "checkpoint_policy: it must be 'best', 'all' or 'none', not 'beste'",
    ),
    "no size": ({"resources": {"shm_size": "1 gi"}}, "resources.shm_size: '1 gi' is no size"),
    "endless size": ({"resources": {"shm_size": "1" * 39 + "p"}}, "larger than any memory"),
    "no device": ({"resources": {"devices": ["/a"]}}, "resources.devices.0: '/a' is not HOST:"),
    "more than all": (
        {"resources": {"slots_per_trial": 3, "max_slots": 2}},
        "resources.slots_per_trial: 3 are more than resources.max_slots (2)",
    ),
    "no variable": (
        {"environment": {"environment_variables": ["=x"]}},
        "environment.environment_variables: '=x' is no variable",
    ),
    "mount of a relative path": (
        {"bind_mounts": [{"host_path": "a", "container_path": "/b"}]},
        "bind_mounts.0.host_path: 'a' is not absolute",
    ),
    "mount over everything": (
        {"bind_mounts": [{"host_path": "/a", "container_path": "."}]},
        "bind_mounts.0.container_path: the working folder itself",
    ),
    "half a mount": (
        {"bind_mounts": [{"host_path": "/a"}]},
        "bind_mounts.0.container_path: missing",
    ),
    "two lengths": (
        {"min_validation_period": {"batches": 1, "epochs": 1}},
        "min_validation_period: it must have exactly one of",
    ),
    "no length": ({"min_checkpoint_period": {}}, "min_checkpoint_period: it must have exactly one"),
    "unit that is none": (
        {"min_checkpoint_period": {"hours": 1}},
        "min_checkpoint_period.hours: it must be 'batches', 'records' or 'epochs', not 'hours'",
    ),
    "negative length": (
        {"min_checkpoint_period": {"batches": -1}},
        "min_checkpoint_period.batches: it must be at least 0, not -1",
    ),
    "nothing to run": ({"entrypoint": " "}, "entrypoint: there is nothing to run"),
    "no words": ({"entrypoint": []}, "entrypoint: there is nothing to run"),
    "a number to run": ({"entrypoint": ["a", 5]}, "entrypoint: it must be a text, or a list"),
    "NUL in a word": ({"entrypoint": ["a", "\0"]}, "entrypoint: a word has a NUL byte"),
    "no expression": (
        {"log_policies": [{"name": "a", "pattern": "("}]},
        "log_policies.0.pattern: '(' is no regular expression: missing )",
    ),
    "unknown action": (
        {"log_policies": [{"pattern": "x", "action": {"type": "restart"}}]},
        "log_policies.0.action: it must be 'cancel_retries' or 'exclude_node', not 'restart'",
    ),
    "policy without a name": (
        {"log_policies": [{"pattern": "x"}]},
        "log_policies.0: a policy needs a name",
    ),
    "two policies of one name": (
        {"log_policies": [{"name": "a"}, {"name": "a", "pattern": "x"}]},
        "log_policies: two policies have the name 'a'",
    ),
    "ends before it begins": (
        {"profiling": {"begin_on_batch": 2, "end_after_batch": 1}},
        "profiling: begin_on_batch must not be after end_after_batch",
    ),
    "level in small letters": (
        {"optimizations": {"mixed_precision": "o1"}},
        "optimizations.mixed_precision: it must be 'O0', 'O1', 'O2' or 'O3', not 'o1'",
    ),
    "kept for too long": (
        {"retention_policy": {"log_retention_days": 32768}},
        "retention_policy.log_retention_days: it must be at most 32767, not 32768",
    ),
    "seed of 33 bits": (
        {"reproducibility": {"experiment_seed": 2**32}},
        "reproducibility.experiment_seed: it must be at most 4294967295",
    ),
    "native experiment": ({"internal": {"native": {}}}, "internal: it has been removed"),
    "half of Pachyderm": (
        {"integrations": {"pachyderm": {"pachd": {"host": "h"}}}},
        "integrations.pachyderm.pachd.port: missing",
    ),
    "no searcher": ({"searcher": None}, "searcher: missing"),
    "removed searcher": (
        {"searcher": {"name": "adaptive", "metric": "x"}},
        "searcher: the 'adaptive' searcher has been removed",
    ),
    "searcher without a metric": ({"searcher": {"name": "single"}}, "searcher.metric: missing"),
    "grid without a count": (
        {
            "searcher": {"name": "grid", "metric": "x"},
            "hyperparameters": {"a": {"b": {"type": "double", "minval": 0, "maxval": 1}}},
        },
        "hyperparameters.a.b.count: a grid needs a count",
    ),
    "empty range": (
        {"hyperparameters": {"a": {"type": "int", "minval": 2, "maxval": 1}}},
        "hyperparameters.a: minval must be less than maxval",
    ),
    "no program": ({"entrypoint": None}, "entrypoint: missing"),
    "too large for a trial": (
        {"data": {"x": "y" * 131_000}},
        "the whole: it has 132",
    ),
    "unknown storage": (
        {"checkpoint_storage": {"type": "hdfs"}},
        "checkpoint_storage: there is no type 'hdfs': it is one of shared_fs, directory, s3",
    ),
    "storage without a bucket": (
        {"checkpoint_storage": {"type": "s3"}},
        "checkpoint_storage.bucket: missing",
    ),
}

PREFIXES = ["..", "../a", "a/..", "a/../b"]

STORAGES: dict[str, tuple[dict[str, Any], str]] = {
    **{
        f"{kind} {prefix}": ({"type": kind, "bucket": "b", "prefix": prefix}, r"prefix.*'\.\.'")
        for kind in ("s3", "gcs")
        for prefix in PREFIXES
    },
    "relative": ({"type": "shared_fs", "host_path": "a"}, "host_path.*absolute"),
    "outside": (
        {"type": "shared_fs", "host_path": "/a", "storage_path": "/b"},
        "storage_path must be a folder below",
    ),
    "beside": (
        {"type": "shared_fs", "host_path": "/a", "storage_path": "/ab"},
        "storage_path must be a folder below",
    ),
    "above": (
        {"type": "shared_fs", "host_path": "/a", "storage_path": "b/../../c"},
        "storage_path must be a folder below",
    ),
    "no account": ({"type": "azure", "container": "c"}, "exactly one of"),
    "two accounts": (
        {"type": "azure", "container": "c", "connection_string": "x", "account_url": "y"},
        "exactly one of",
    ),
    "credential for no URL": (
        {"type": "azure", "container": "c", "connection_string": "x", "credential": "y"},
        "credential goes with account_url",
    ),
    "no type": ({"bucket": "b"}, "type is missing: it is one of shared_fs"),
    "negative": (
        {"type": "gcs", "bucket": "b", "save_trial_best": -1},
        "save_trial_best.*at least 0",
    ),
}


@pytest.mark.parametrize(("keys", "told"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told_with_its_key(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(BadExperimentConfig) as caught:
        parse(experiment(**keys))
    assert told in str(caught.value)


@pytest.mark.parametrize(("section", "told"), STORAGES.values(), ids=STORAGES)
def test_storages_that_cannot_be(section: dict[str, Any], told: str) -> None:
    with pytest.raises(BadExperimentConfig, match=told):
        parse(experiment(checkpoint_storage=section), storage=None)


@pytest.mark.parametrize("prefix", ["a/./b", "a/.../b/", "/a", "..."])
def test_a_prefix_may_look_odd(prefix: str) -> None:
    read = parse_checkpoint_storage({"type": "s3", "bucket": "b", "prefix": prefix})
    assert read.model_dump()["prefix"] == prefix


@pytest.mark.parametrize("storage_path", [None, "c/d", "/a/b/c", "c/..", "/a/b"])
def test_a_folder_within_a_shared_one(storage_path: str | None) -> None:
    section = {"type": "shared_fs", "host_path": "/a/b/", "storage_path": storage_path}
    assert parse_checkpoint_storage(section).model_dump()["storage_path"] == storage_path


def test_all_mistakes_are_told_at_once_and_where_they_are_from() -> None:
    source = experiment(
        nme="x",
        resources={"slots": 1, "weight": "a"},
        checkpoint_storage={"type": "s3", "prefix": ".."},
        searcher={"name": "random", "metric": "x"},
    )
    template = {
        "work_dir": "/x",
        "hyperparameters": {"a": {"type": "int"}},
        "searcher": {"mtrc": 1},
    }
    with pytest.raises(BadExperimentConfig) as caught:
        parse(source, template=template)
    assert {problem.place for problem in caught.value.problems} == {
        *("nme", "resources.slots", "resources.weight", "checkpoint_storage.prefix"),
        *("searcher.max_trials", "template: work_dir", "template: searcher.mtrc"),
        *("hyperparameters.a.minval", "hyperparameters.a.maxval"),
    }


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("", "the text: it must be a mapping"),
        ("[]", "the text: it must be a mapping"),
        ("a: 1\na: 2", "the text: line 2, column 1: the key 'a' is there twice"),
        ("a: .nan", "no number that JSON has"),
        ({"data": {"x": float("nan")}}, "no number that JSON has"),
        ({"data": {"x": object()}}, "a object has no place in it"),
        ({"data": {"x": "\ud800"}}, "half a character"),
        ({"data": {"x": list(range(100_001))}}, "more than 100000 values"),
    ],
    ids=["empty", "list", "twice", "nan", "nan as data", "object", "surrogate", "many"],
)
def test_what_is_no_configuration_at_all(source: Any, told: str) -> None:
    with pytest.raises(BadExperimentConfig) as caught:
        parse(source)
    assert told in str(caught.value)


def test_secrets_are_not_told() -> None:
    with pytest.raises(BadExperimentConfig) as caught:
        parse(
            experiment(
                checkpoint_storage={"type": "s3", "bucket": "b", "secret_key": 271828},
                environment={"registry_auth": {"password": 271828}},
            )
        )
    assert "secret_key: it must be a text, not a number" in str(caught.value)
    assert "271828" not in str(caught.value)


def test_an_error_is_never_long() -> None:
    keys = {"k" * 100_000: 1, **{f"key{number}": 1 for number in range(5000)}}
    with pytest.raises(BadExperimentConfig) as caught:
        parse(experiment(**keys))
    assert len(str(caught.value)) < 5000
    assert caught.value.problems[-1].text == "there are 4801 more mistakes"


SCRAPS: list[Any] = [
    *(None, True, 0, -1, 1.5, 2**70, 1e300, "", "x", "\0", "../..", "é", [], {}, [[]]),
    *([None], ["x"], {"type": "int"}, {"type": []}, {"name": "x"}, {"": None}, {"a": {"b": 1}}),
]


def damage(source: Any, chance: random.Random) -> Any:
    """Put a scrap into some place of *source*, or take something out."""
    if not isinstance(source, dict | list) or not source or chance.random() < 0.15:
        return copy.deepcopy(chance.choice(SCRAPS))
    changed: Any = copy.copy(cast("Any", source))
    key: Any = chance.choice(list(changed) if isinstance(source, dict) else range(len(changed)))
    if isinstance(source, dict) and chance.random() < 0.1:
        del changed[key]
        changed[chance.choice(["", "nam", "0", "type", "é" * 50])] = chance.choice(SCRAPS)
    else:
        changed[key] = damage(changed[key], chance)
    return changed


def test_damaged_configurations_are_read_or_refused() -> None:
    chance = random.Random(7)
    read = refused = 0
    for _ in range(1500):
        source = FULL
        for _ in range(chance.randint(1, 4)):
            source = damage(source, chance)
        template = damage(FULL, chance) if chance.random() < 0.3 else None
        try:
            text = source if chance.random() < 0.5 else json.dumps(source, ensure_ascii=False)
            parse(text, template=template)
            read += 1
        except BadExperimentConfig:
            refused += 1
    assert read > 30
    assert refused > 100
