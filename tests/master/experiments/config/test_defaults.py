"""What a configuration is with all its defaults, as Determined 0.38.1 has it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from shipway_master.experiments.config import load_experiment_config
from tests.lab.det import Det, program
from tests.master.experiments.config.building import SEED, experiment, parse, plain

DEFAULTED: dict[str, Any] = {
    "bind_mounts": [],
    "checkpoint_policy": "best",
    "checkpoint_storage": {
        "type": "shared_fs",
        "host_path": "/checkpoints",
        "storage_path": None,
        "propagation": "rprivate",
        "save_experiment_best": 0,
        "save_trial_best": 1,
        "save_trial_latest": 1,
    },
    "data": {},
    "debug": False,
    "description": None,
    "entrypoint": "python3 train.py",
    "environment": {
        "add_capabilities": [],
        "drop_capabilities": [],
        "environment_variables": {"cpu": [], "cuda": [], "rocm": []},
        "force_pull_image": False,
        "image": {"cpu": "", "cuda": "", "rocm": ""},
        "pod_spec": None,
        "ports": {},
        "proxy_ports": [],
        "registry_auth": None,
    },
    "hyperparameters": {},
    "integrations": None,
    "labels": [],
    "log_policies": [
        {"name": "CUDA OOM", "pattern": ".*CUDA out of memory.*"},
        {"name": "ECC Error", "pattern": ".*uncorrectable ECC error encountered.*"},
    ],
    "max_restarts": 5,
    "min_checkpoint_period": {"batches": 0},
    "min_validation_period": {"batches": 0},
    "name": "mine",
    "optimizations": {
        "aggregation_frequency": 1,
        "auto_tune_tensor_fusion": False,
        "average_aggregated_gradients": True,
        "average_training_metrics": True,
        "grad_updates_size_file": None,
        "gradient_compression": False,
        "mixed_precision": "O0",
        "tensor_fusion_cycle_time": 1,
        "tensor_fusion_threshold": 64,
    },
    "pbs": {},
    "perform_initial_validation": False,
    "preemption_timeout": 3600,
    "profiling": {
        "begin_on_batch": 0,
        "enabled": False,
        "end_after_batch": None,
        "sync_timings": True,
    },
    "project": "",
    "records_per_epoch": 0,
    "reproducibility": {"experiment_seed": SEED},
    "resources": {
        "devices": [],
        "is_single_node": None,
        "max_slots": None,
        "native_parallel": False,
        "priority": None,
        "resource_pool": "",
        "shm_size": None,
        "slots_per_trial": 1,
        "weight": 1,
    },
    "scheduling_unit": 100,
    "searcher": {
        "metric": "loss",
        "name": "single",
        "smaller_is_better": True,
        "source_checkpoint_uuid": None,
        "source_trial_id": None,
    },
    "slurm": {},
    "workspace": "",
}
"""Of the smallest configuration; images, which Determined has for all, nobody chooses here."""

FULL: dict[str, Any] = {
    "name": "mine",
    "description": "ours",
    "labels": ["a", "b"],
    "debug": True,
    "workspace": "w",
    "project": "p",
    "data": {"any": ["thing", None], "secrets": {"a": 1}},
    "entrypoint": ["python3", "-m", "determined.launch.torch_distributed", "train.py"],
    "bind_mounts": [{"host_path": "/a", "container_path": "b", "read_only": True}],
    "checkpoint_policy": "all",
    "checkpoint_storage": {"type": "s3", "bucket": "b", "access_key": "k", "secret_key": "s"},
    "environment": {
        "image": {"cpu": "x", "gpu": "y"},
        "environment_variables": {"gpu": ["A=1"], "cpu": ["B"]},
        "ports": {"main": 1234},
        "proxy_ports": [{"proxy_port": 8080, "proxy_tcp": True}],
        "force_pull_image": True,
        "registry_auth": {"username": "u", "password": "p", "serveraddress": "s"},
        "add_capabilities": ["CAP_CHOWN"],
        "drop_capabilities": ["CAP_KILL"],
        "pod_spec": {"spec": {"containers": [{"name": "side"}]}},
    },
    "hyperparameters": {
        "batch": 32,
        "list": [1, "x", None],
        "nested": {"rate": {"type": "log", "minval": -5, "maxval": 0, "base": 10.0}},
        "explicit": {"type": "const", "val": {"type": "int"}},
        "layers": {"type": "int", "minval": 1, "maxval": 4, "count": 2},
        "kind": {"type": "categorical", "vals": [None, True, 0.5, "x", {"a": [1]}]},
    },
    "integrations": {
        "pachyderm": {
            "pachd": {"host": "h", "port": 80},
            "proxy": {"scheme": "http", "host": "h", "port": 80},
            "dataset": {"project": "p", "repo": "r", "commit": "c", "branch": "b", "token": "t"},
        },
        "webhooks": {"webhook_id": [1], "webhook_name": ["x"], "exclude": True},
    },
    "log_policies": [
        {"name": "CUDA OOM"},
        {"name": "lost", "pattern": "(?i)lost", "action": "exclude_node"},
        {"pattern": "gone", "action": {"type": "cancel_retries"}},
    ],
    "max_restarts": 0,
    "min_checkpoint_period": {"epochs": 1},
    "min_validation_period": {"records": 100},
    "optimizations": {"aggregation_frequency": 2, "mixed_precision": "O1"},
    "pbs": {"slots_per_node": 99, "pbsbatch_args": ["-a b"]},
    "perform_initial_validation": True,
    "preemption_timeout": 60,
    "profiling": {"enabled": True, "begin_on_batch": 1, "end_after_batch": 1},
    "records_per_epoch": 5,
    "reproducibility": {"experiment_seed": 2**32 - 1},
    "resources": {
        "slots_per_trial": 15,
        "max_slots": 900,
        "weight": 2.5,
        "priority": 55,
        "resource_pool": "gpus",
        "shm_size": "1.5 GiB",
        "is_single_node": True,
        "devices": [{"host_path": "/x", "container_path": "/x", "mode": "rw"}, "/y:/z"],
        "agent_label": "gone",
    },
    "retention_policy": {"log_retention_days": -1},
    "scheduling_unit": 5,
    "searcher": {"name": "random", "metric": "loss", "max_trials": 3, "source_trial_id": 7},
    "slurm": {"slots_per_node": 2, "gpu_type": "tesla", "sbatch_args": ["--exclusive"]},
    "data_layer": {"type": "shared_fs"},
    "security": {"kerberos": {"config_file": "x"}},
    "tensorboard_storage": {"type": "shared_fs", "host_path": "/x"},
    "internal": None,
}


def test_the_smallest_configuration_has_all_defaults() -> None:
    assert plain(experiment(name="mine")) == DEFAULTED


def test_null_is_the_same_as_absent() -> None:
    keys = DEFAULTED.keys() - {"entrypoint", "searcher", "name", "checkpoint_storage"}
    sections = {"resources": {"slots_per_trial": None, "shm_size": None}, "searcher": None}
    given = experiment(name="mine", **dict.fromkeys(keys))
    assert plain({**given, "resources": sections["resources"]}) == DEFAULTED


def test_a_configuration_with_everything_keeps_it() -> None:
    read = plain(FULL)
    storage = DEFAULTED["checkpoint_storage"]
    assert read["checkpoint_storage"] == {
        **{key: storage[key] for key in storage if key.startswith("save_")},
        **FULL["checkpoint_storage"],
        "endpoint_url": None,
        "prefix": None,
    }
    assert read["environment"] == {
        **FULL["environment"],
        "image": {"cpu": "x", "cuda": "y", "rocm": ""},
        "environment_variables": {"cpu": ["B"], "cuda": ["A=1"], "rocm": []},
        "proxy_ports": [
            {
                "proxy_port": 8080,
                "proxy_tcp": True,
                "unauthenticated": False,
                "default_service_id": False,
            }
        ],
    }
    assert read["log_policies"] == [
        *FULL["log_policies"][:2],
        {"pattern": "gone", "action": "cancel_retries"},
        DEFAULTED["log_policies"][1],
    ]
    assert read["hyperparameters"] == {
        **FULL["hyperparameters"],
        "batch": {"type": "const", "val": 32},
        "list": {"type": "const", "val": [1, "x", None]},
        "nested": {"rate": {"type": "log", "minval": -5, "maxval": 0, "base": 10}},
    }
    assert read["resources"] == {
        **{key: FULL["resources"][key] for key in FULL["resources"] if key != "agent_label"},
        "shm_size": 3 * 2**29,
        "native_parallel": False,
        "devices": [
            {"host_path": "/x", "container_path": "/x", "mode": "rw"},
            {"host_path": "/y", "container_path": "/z", "mode": "mrw"},
        ],
    }
    same = ("data", "entrypoint", "integrations", "labels", "pbs", "retention_policy", "slurm")
    assert {key: read[key] for key in same} == {key: FULL[key] for key in same}


@pytest.mark.parametrize("source", [experiment(), FULL], ids=["smallest", "everything"])
def test_it_is_read_back_as_it_was_written(source: dict[str, Any]) -> None:
    written = plain(source)
    assert load_experiment_config(written).to_plain(reveal=True) == written
    assert json.loads(json.dumps(written, allow_nan=False)) == written


def test_a_name_is_made_up_from_the_seed() -> None:
    first, second = parse(experiment()).name, parse(experiment()).name
    assert first == second
    other = parse(experiment(reproducibility={"experiment_seed": 1}))
    assert (other.name, other.reproducibility.experiment_seed) == (first, 1)


def test_an_unmanaged_experiment_needs_neither_program_nor_storage() -> None:
    source = {"name": "mine", "searcher": {"name": "single", "metric": "loss"}}
    read = plain(source, storage=None, is_managed=False)
    assert (read["entrypoint"], read["checkpoint_storage"]) == (None, None)


@pytest.mark.det
def test_the_stock_package_finds_what_it_reads(det: Callable[..., Det]) -> None:
    """It is asked for all that it takes from a trial's configuration, and has its own defaults."""
    assert det  # it is there
    script = """
import json, sys
import determined as det
from determined._execution import DEFAULT_TEST_CONFIG
config = det.ExperimentConfig(json.load(sys.stdin))
optimizations = DEFAULT_TEST_CONFIG["optimizations"]
print(json.dumps({
    "own_defaults": optimizations.items() <= config.get_optimizations_config().items(),
    "slots": config.slots_per_trial(), "parallel": config.native_parallel_enabled(),
    "average": config.average_training_metrics_enabled(), "unit": config.scheduling_unit(),
    "seed": config.experiment_seed(), "profiling": config.profiling_interval(),
    "sync": config.profiling_sync_timings(), "records": config.get_records_per_epoch(),
    "validation": config.get_min_validation_period(), "metric": config.get_searcher_metric(),
    "checkpoint": config.get_min_checkpoint_period(), "entrypoint": config.get_entrypoint(),
    "storage": config.get_checkpoint_storage()["type"], "debug": config.debug_enabled(),
    "policy": config["checkpoint_policy"], "first": config["perform_initial_validation"],
}))
"""
    done = subprocess.run(
        [program().with_name("python"), "-c", script],
        input=json.dumps(plain(experiment())),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {
        "own_defaults": True,
        "slots": 1,
        "parallel": False,
        "average": True,
        "unit": 100,
        "seed": SEED,
        "profiling": [0, 0],
        "sync": True,
        "records": 0,
        "metric": "loss",
        "validation": {"batches": 0},
        "checkpoint": {"batches": 0},
        "storage": "shared_fs",
        "entrypoint": "python3 train.py",
        "debug": False,
        "policy": "best",
        "first": False,
    }
