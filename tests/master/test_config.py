"""The master's settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from shipway_common.settings import Settings, SettingsError
from shipway_master._reference import REFERENCE
from shipway_master.cluster.config import HpcProvider, PoolConfig
from shipway_master.config import MasterConfig, load_config
from shipway_master.hpc.config import PartitionOverride, SlurmManagerConfig


def load(text: str, **flags: object) -> MasterConfig:
    """Load settings from YAML."""
    return load_config(file_text=text, file_name="master.yaml", flags=flags)


def test_flags_win_over_the_file_and_the_file_over_defaults() -> None:
    config = load("port: 1\nhost: '::1'\nlog: {level: debug}", port=2, host=None)

    assert (config.port, config.host, config.log.level) == (2, "::1", "debug")
    assert load("").port == 8080
    assert load("").host == "127.0.0.1"


def test_the_database_is_a_file_unless_another_is_named() -> None:
    data = Path("/data")

    def url(text: str) -> str:
        return load(text).db.resolve_url(data).render_as_string(hide_password=False)

    assert url("") == "sqlite:////data/master.db"
    assert url("db: {url: 'sqlite:///x'}") == "sqlite:///x"
    server = url("db: {host: h, user: u, password: 'p@:/', name: n, port: 5}")
    assert server == "postgresql://u:p%40%3A%2F@h:5/n"


def test_secrets_are_masked_everywhere() -> None:
    config = load(
        "db: {url: 'postgresql://u:secret1@h/n', password: secret2}\n"
        "security: {initial_user_password: secret3}"
    )

    for shown in (str(config), repr(config), str(config.masked()), config.model_dump_json()):
        assert "secret" not in shown.replace("SecretStr", "")
    assert config.masked()["db"]["password"] == "********"


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("prot: 1", ["prot"]),
        ("port: x\nlog: {level: loud}", ["port", "log.level"]),
        ("security: {tls: {cert: a.pem}}", ["security.tls", "cert and key belong together"]),
        ("db: {url: x}\nlog: 5", ["db.url", "sqlite:////PATH", "log: "]),
        ("db: {url: 'mysql://secret@h/n'}", ["db.url", "postgresql://"]),
        ("db: {url: 'sqlite://'}", ["db.url"]),
        ("- a", ["mapping"]),
        ("a: [", ["not YAML"]),
    ],
)
def test_all_mistakes_are_named_at_once(text: str, places: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load(text, log={"level": None})

    for place in (*places, "master.yaml"):
        assert place in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_home_folder_may_be_written_short() -> None:
    assert load("data: ~/x").data == Path.home() / "x"


def test_the_lists_of_settings_for_users_are_as_the_model_is() -> None:
    stale = [path.name for path, text in REFERENCE.pages().items() if path.read_text() != text]
    assert stale == [], "run python -m shipway_master._reference"


def test_every_setting_is_described() -> None:
    assert [key for key, words in REFERENCE.descriptions.items() if not words] == []


def test_the_example_file_has_each_key_with_its_default() -> None:
    example = REFERENCE.render_example()
    keys = re.sub(r"(?m)^#(?=[^ ]|  )", "", example)
    given = yaml.safe_dump(_pruned(yaml.safe_load(keys)))
    assert load(given).masked() == load("").masked()
    for key in REFERENCE.descriptions:
        assert re.search(rf"(?m)^ *{key.rpartition('.')[2]}:", keys), key
    assert load(example) == load("")


def _pruned(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out what has no value in the example."""
    return {
        key: _pruned(cast("dict[str, Any]", value)) if isinstance(value, dict) else value
        for key, value in values.items()
        if value is not None
    }


@pytest.mark.parametrize("model", [SlurmManagerConfig, PartitionOverride, PoolConfig, HpcProvider])
def test_the_page_has_each_key_of_a_launcher_and_of_a_pool(model: type[Settings]) -> None:
    page = (Path(__file__).parents[2] / "docs/master.md").read_text()
    assert [key for key in model.model_fields if not re.search(rf"[ `.]{key}[:`.]", page)] == []
