"""Settings and the token: every mistake has its place, and unsafe ones are refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from shipway_common.settings import SettingsError, walk_fields
from shipway_launcher._reference import REFERENCE
from shipway_launcher.config import LauncherSettings, load_settings
from shipway_launcher.daemon import check_user
from shipway_launcher.errors import SetupError
from shipway_launcher.tokens import load_or_make_token, read_token

MASTER = """
log: {level: info}
resource_manager:
  type: slurm
  host: login
  port: 9191
  master_host: login
  auth_file: /root/.launcher.token
  user_name: launcher
  group_name: launcher
  sudo_authorized: alice,bob
  job_storage_root: /lustre/launcher
  singularity_image_root: /lustre/images
  path: /opt/slurm/bin:${PATH}
  launcher_jvm_args: -Xms1024m
  tres_supported: true
  container_run_type: singularity
"""


def test_the_launchers_keys_of_a_master_yaml() -> None:
    settings = load_settings(master_text=MASTER, environment={"PATH": "/usr/bin"})
    assert settings.port == 9191
    assert settings.host == "127.0.0.1", "the master's word for where the launcher is"
    assert settings.token_file == Path("/root/.launcher.token")
    assert settings.job_storage_root == Path("/lustre/launcher")
    assert settings.image_root == Path("/lustre/images")
    assert settings.sudo_authorized == "alice,bob"
    assert settings.path == "/opt/slurm/bin:/usr/bin"


def test_flags_win_over_the_environment_over_the_file_over_the_master() -> None:
    settings = load_settings(
        master_text=MASTER,
        file_text="port: 1\nhost: 10.0.0.1\nslurm: {conf_file: /file.conf, settle_s: 5}\n",
        environment={"SLURM_CONF": "/environment.conf"},
        flags={"host": "::1", "port": None},
    )
    assert (settings.port, settings.host) == (1, "::1")
    assert settings.slurm.conf_file == Path("/environment.conf")
    assert settings.slurm.settle_s == 5
    assert settings.user_name == "launcher"


def test_the_token_is_in_the_storage_by_default() -> None:
    settings = load_settings(flags={"job_storage_root": "/lustre/l"})
    assert settings.token_file == Path("/lustre/l/launcher.token")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("prot: 1", "prot"),
        ("port: 99999\nwatch: {interval_s: -1}\nlimits: {x: 1}", "port: .*watch.*limits"),
        ("job_storage_root: relative", "job_storage_root"),
        ("job_storage_root: /a%b", "percent"),
        ("job_storage_root: '/a\\b'", "backslash"),
        ("singularity_image_root: /a\napptainer_image_root: /b", "only one of"),
        ("slurm: {environment: {SBATCH_EXCLUSIVE: '1'}}", "SBATCH_EXCLUSIVE changes"),
        ("slurm: {environment: {SLURM_TIME_FORMAT: relative}}", "SLURM_TIME_FORMAT changes"),
        ("impersonation: always", "impersonation"),
        ("agent_command: []", "agent_command"),
        ("- a", "mapping"),
        ("a: [", "not YAML"),
    ],
)
def test_mistakes_are_named_all_at_once(text: str, named: str) -> None:
    with pytest.raises(SettingsError, match=f"(?s){named}"):
        load_settings(file_text=text, file_name="launcher.yaml")


@pytest.mark.parametrize(
    ("text", "named"),
    [("log: {}", "resource_manager"), ("resource_manager: {type: agent}", "slurm and pbs")],
)
def test_a_master_yaml_that_is_not_for_us(text: str, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load_settings(master_text=text)


def test_a_master_yaml_says_which_workload_manager_there_is() -> None:
    found = load_settings(master_text="resource_manager: {type: pbs, port: 9}")
    assert (found.workload_manager, found.port) == ("pbs", 9)
    with pytest.raises(SettingsError, match="job_storage_root must hold no blank, colon"):
        load_settings(flags={"workload_manager": "pbs", "job_storage_root": "/a:b"})


def test_the_launcher_runs_only_as_who_it_is_meant_to() -> None:
    with pytest.raises(SetupError, match="is to run as someone-else"):
        check_user(load_settings(flags={"user_name": "someone-else"}), "me")


def test_root_must_be_named_to_be_allowed() -> None:
    with pytest.raises(SetupError, match="user_name: root"):
        check_user(load_settings(), "root")
    check_user(load_settings(flags={"user_name": "root"}), "root")


def test_a_token_is_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "made/for it/token"
    token = load_or_make_token(path)
    assert path.read_text() == token, "and nothing else: no line end"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(token) >= 32
    assert load_or_make_token(path) == token


@pytest.mark.parametrize("mode", [0o644, 0o606, 0o620, 0o660])
def test_a_token_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    load_or_make_token(path)
    path.chmod(mode)
    with pytest.raises(SetupError, match=f"{mode:04o}"):
        load_or_make_token(path)
    path.chmod(0o640)
    assert read_token(path)


@pytest.mark.parametrize("content", ["", "token\n", "two words", "día"])
def test_a_token_that_no_header_can_hold_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(SetupError, match="alone"):
        load_or_make_token(path)


def test_a_token_file_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="auth_file"):
        load_or_make_token(tmp_path / "file/token")


def test_the_lists_of_settings_for_users_are_as_the_model_is() -> None:
    stale = [path.name for path, text in REFERENCE.pages().items() if path.read_text() != text]
    assert stale == [], "run python -m shipway_launcher._reference"


def test_every_setting_is_described() -> None:
    for key, field in walk_fields(LauncherSettings):
        assert field.description, key


def test_the_example_file_has_each_key_with_its_default() -> None:
    example = REFERENCE.render_example()
    keys = re.sub(r"(?m)^#(?=[^ ]|  )", "", example)
    given = yaml.safe_dump(_pruned(yaml.safe_load(keys)))
    assert load_settings(file_text=given) == load_settings()
    for key, _ in walk_fields(LauncherSettings):
        assert re.search(rf"(?m)^ *{key.rpartition('.')[2]}:", keys), key
    assert load_settings(file_text=example) == load_settings()


def _pruned(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what has no value in the example."""
    return {
        key: _pruned(cast("dict[str, Any]", value)) if isinstance(value, dict) else value
        for key, value in values.items()
        if value is not None
    }
