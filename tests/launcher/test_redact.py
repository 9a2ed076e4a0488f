"""Nothing secret of a manifest is shown again, wherever it stands."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shipway_launcher.redact import redact_manifest
from tests.launcher.manifests import make_manifest

CONFIG = {
    "name": "mnist",
    "environment": {
        "environment_variables": {"cpu": ["HF_TOKEN=hf-secret-1", "PLAIN=yes"], "cuda": []},
        "registry_auth": {"username": "alice", "password": "registry-secret"},
    },
    "checkpoint_storage": {"type": "s3", "secret_key": "s3-secret", "access_key": "AK-secret"},
    "entrypoint": "python3 train.py --wandb hf-secret-1",
}


def parameters(**changes: Any) -> dict[str, Any]:
    text = redact_manifest(make_manifest(**changes))
    shown: dict[str, Any] = json.loads(text)["payloads"][0]["launchParameters"]
    return shown


def test_a_configuration_keeps_all_but_its_secrets() -> None:
    text = redact_manifest(make_manifest(environment={"DET_EXPERIMENT_CONFIG": json.dumps(CONFIG)}))
    assert b"secret" not in text.replace(b"secret_key", b"")
    shown = json.loads(text)["payloads"][0]["launchParameters"]["environment"]
    config = json.loads(shown["DET_EXPERIMENT_CONFIG"])
    assert config["environment"]["environment_variables"]["cpu"] == ["HF_TOKEN=***", "PLAIN=yes"]
    assert config["environment"]["registry_auth"] == {"username": "alice", "password": "***"}
    assert config["entrypoint"] == "python3 train.py --wandb ***"


@pytest.mark.parametrize(
    "name",
    [
        *("DET_USER_TOKEN", "MY_PAT", "DB_PASSWD", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "DSN"),
        *("WANDB_API_KEY", "AZURE_STORAGE_KEY", "APPTAINER_DOCKER_PASSWORD", "ssh_private_key"),
        *("SLURM_JWT", "CONNECTION_STRING", "PASSPHRASE", "GH_AUTH", "DET_SEGMENT_API_KEY"),
    ],
)
def test_variables_named_like_secrets_are_masked_wherever_they_stand(name: str) -> None:
    shown = parameters(
        arguments=["/bin/sh", "-c", "curl -H 'X: v-a-l-u-e'"],
        environment={name: "v-a-l-u-e", "OTHER": "is v-a-l-u-e too", "EMPTY_TOKEN": ""},
    )
    assert shown["environment"][name] == "***"
    assert "v-a-l-u-e" not in json.dumps(shown)
    assert shown["environment"]["EMPTY_TOKEN"] == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["x", "--token", "abc", "y"], ["x", "--token", "***", "y"]),
        (["x", "--api-key=abc", "y"], ["x", "--api-key=***", "y"]),
        (["sh", "-c", "run --password hunter2 --lr 1"], ["sh", "-c", "run --password *** --lr 1"]),
        (["PASSWORD=abc", "env"], ["PASSWORD=***", "env"]),
        (["--token", "--next", "z"], ["--token", "--next", "z"]),
        (["git", "clone", "https://u:p@host/x"], ["git", "clone", "https://***:***@host/x"]),
        (["echo", "-----BEGIN RSA PRIVATE KEY-----\nabc"], ["echo", "***"]),
        (["train.py", "--tokenizer=bert-base"], ["train.py", "--tokenizer=bert-base"]),
    ],
)
def test_arguments(words: list[str], expected: list[str]) -> None:
    assert parameters(arguments=words)["arguments"] == expected


def test_what_is_no_secret_stays() -> None:
    environment = {"DET_MASTER": "http://login:8080", "PATHS": "/a:/b", "JSON": '{"lr":0.001}'}
    shown = parameters(arguments=["python3", "-m", "x"], environment=environment)
    assert {name: shown["environment"][name] for name in environment} == environment
    assert shown["arguments"] == ["python3", "-m", "x"]


def test_the_files_of_a_task_are_not_shown() -> None:
    assert parameters(archives=["abc", "def"])["custom"]["Archives"] == ["***", "***"]
