"""What a TensorBoard reads, and what its task needs for that."""

from __future__ import annotations

from typing import Any

import pytest

from shipway_master.tasks.errors import BadTask
from shipway_master.tasks.launch import AgentUser
from shipway_master.tasks.model import TaskConfig
from shipway_master.tasks.service import Service
from shipway_master.tensorboards.board import Plan, Source, plan_board
from shipway_master.tensorboards.equipment import equip_tensorboard

SHARED = {"type": "shared_fs", "host_path": "/data", "storage_path": "checkpoints"}
S3 = {
    "type": "s3",
    "bucket": "b",
    "prefix": "p/q/",
    "access_key": "AKIA",
    "secret_key": "s3cr",
    "endpoint_url": "http://minio:9000",
    "save_trial_best": 1,
}


def source(number: int, storage: Any, *, trial_id: int | None = None, **config: Any) -> Source:
    """Make a source."""
    whole = {"checkpoint_storage": storage, **config}
    return Source(experiment_id=number, trial_id=trial_id, config=whole)


def plan(*sources: Source) -> Plan:
    """Plan a board."""
    return plan_board(sources, "C")


@pytest.mark.parametrize(
    ("storage", "folder"),
    [
        (SHARED, "/determined_shared_fs/checkpoints"),
        ({**SHARED, "storage_path": "/data/deep/er"}, "/determined_shared_fs/deep/er"),
        ({**SHARED, "storage_path": None}, "/determined_shared_fs"),
        ({"type": "directory", "container_path": "/mine/"}, "/mine"),
        (S3, "s3://b/p/q"),
        ({"type": "s3", "bucket": "b", "prefix": None}, "s3://b"),
        ({"type": "gcs", "bucket": "b", "prefix": "p"}, "gs://b/p"),
        ({"type": "azure", "container": "c", "connection_string": "x"}, "azure://c"),
    ],
    ids=["shared", "whole-path", "no-path", "directory", "s3", "s3-bare", "gcs", "azure"],
)
def test_where_the_files_of_experiments_and_trials_are(storage: Any, folder: str) -> None:
    board = plan(source(3, storage), source(4, storage, trial_id=9)).board

    assert board.folders == {
        "exp-3": f"{folder}/C/tensorboard/experiment/3/",
        "exp-4-trial-9": f"{folder}/C/tensorboard/experiment/4/trial/9/",
    }
    assert (board.experiment_ids, board.trial_ids) == ([3], [9])


def test_each_shared_folder_is_mounted_once_and_only_to_be_read() -> None:
    found = plan(
        source(1, SHARED),
        source(2, {**SHARED, "host_path": "/other"}),
        source(3, {**SHARED, "host_path": "/data/"}),
    )

    mounts = [(one.host_path, one.container_path, one.read_only) for one in found.mounts]
    assert mounts == [
        ("/data", "/determined_shared_fs", True),
        ("/other", "/determined_shared_fs_2", True),
    ]
    assert found.board.folders["exp-2"].startswith("/determined_shared_fs_2/checkpoints/C/")


def test_a_directory_comes_with_the_mounts_of_its_experiment() -> None:
    storage = {"type": "directory", "container_path": "/mine"}
    mount = {"host_path": "/h", "container_path": "/mine"}
    found = plan(source(1, storage, bind_mounts=[mount]), source(2, storage, bind_mounts=[mount]))

    assert [(one.host_path, one.container_path) for one in found.mounts] == [("/h", "/mine")]
    other = {"host_path": "/g", "container_path": "/mine"}
    with pytest.raises(BadTask, match="has /g at /mine, where another one has /h"):
        plan(source(1, storage, bind_mounts=[mount]), source(2, storage, bind_mounts=[other]))


@pytest.mark.parametrize(
    ("sources", "text"),
    [
        ([], "at least one"),
        ([source(1, None)], "experiment 1 does not say where its metrics are"),
        ([source(1, SHARED), source(2, S3)], "experiment 2 are in another storage"),
        ([source(1, S3), source(2, SHARED)], "experiment 2 are in another storage"),
        ([source(1, S3), source(2, {**S3, "secret_key": "x"})], "experiment 2 are in another"),
        ([source(1, {**SHARED, "storage_path": "a,b"})], "has a comma or a colon"),
        ([source(1, {**SHARED, "storage_path": "a:b"})], "has a comma or a colon"),
    ],
    ids=["nothing", "no-storage", "mixed", "mixed-too", "two-keys", "comma", "colon"],
)
def test_what_cannot_be_shown_is_refused(sources: list[Source], text: str) -> None:
    with pytest.raises(BadTask, match=text):
        plan(*sources)


def test_the_newest_experiment_gives_the_environment_unless_an_image_is_chosen() -> None:
    old = source(1, SHARED, environment={"image": {"cuda": "old"}})
    new = source(
        2,
        SHARED,
        environment={
            "image": {"cpu": "new", "cuda": "new-gpu"},
            "environment_variables": {"cpu": ["A=1"], "cuda": []},
            "registry_auth": {"username": "u", "password": "p"},
            "ports": {"x": 1},
        },
    )
    found = plan(new, old)

    given = {"environment": {"environment_variables": ["B=2"]}, "resources": {"slots": 3}}
    environment = TaskConfig.model_validate(found.complete(given)).environment
    assert environment.image.cpu == "new"
    assert environment.environment_variables.cpu == ["A=1", "B=2"]
    assert environment.environment_variables.cuda == ["B=2"]
    assert environment.registry_auth is not None
    assert environment.registry_auth.password == "p"
    assert environment.ports == {}
    chosen = TaskConfig.model_validate(found.complete({"environment": {"image": "mine"}}))
    assert chosen.environment.image.cuda == "mine"
    assert not chosen.environment.environment_variables.cpu
    assert chosen.resources.slots == 0
    assert [mount.container_path for mount in chosen.bind_mounts] == ["/determined_shared_fs"]


@pytest.mark.parametrize(
    "config",
    [{"environment": 5}, {"bind_mounts": "x"}, {"slots": 1}, {"tensorboard_args": ["a\0b"]}],
    ids=["environment", "mounts", "unknown", "nul"],
)
def test_a_configuration_that_is_none_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(BadTask, match="invalid config"):
        plan(source(1, SHARED)).complete(config)


def test_credentials_are_in_the_environment_and_in_a_file_for_the_owner_alone() -> None:
    board = plan(source(1, S3)).board
    equipment = equip_tensorboard(
        board,
        Service(port=2600, secret=""),
        AgentUser(uid=7, gid=8),
        TaskConfig(tensorboard_args=["--samples_per_plugin=images=100"], debug=True),
    )

    assert equipment.argv[2:] == (
        "s3://b/p/q/C/tensorboard/experiment/1/",
        "--samples_per_plugin=images=100",
    )
    assert "s3cr" not in " ".join(equipment.argv)
    assert "s3cr" not in repr(equipment) + repr(board)
    file = next(one for one in equipment.files if one.path == equipment.argv[1])
    assert (file.mode, file.uid, b"s3cr" in file.content) == (0o600, 7, True)
    assert equipment.variables == {
        "TENSORBOARD_PORT": "2600",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "DET_DEBUG": "true",
        "AWS_BUCKET": "b",
        "AWS_ACCESS_KEY_ID": "AKIA",
        "AWS_SECRET_ACCESS_KEY": "s3cr",
        "DET_S3_ENDPOINT_URL": "http://minio:9000",
        "S3_ENDPOINT": "minio:9000",
        "S3_USE_HTTPS": "0",
    }


def test_paths_are_named_and_nothing_is_fetched() -> None:
    board = plan(source(1, SHARED), source(2, SHARED, trial_id=5)).board
    user, service = AgentUser(), Service(port=2600, secret="")
    equipment = equip_tensorboard(board, service, user, TaskConfig())

    base = "/determined_shared_fs/checkpoints/C/tensorboard/experiment"
    assert equipment.argv[2] == f"exp-1:{base}/1/,exp-2-trial-5:{base}/2/trial/5/"
    assert not [one for one in equipment.files if one.path == equipment.argv[1]]
