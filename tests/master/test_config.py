"""The master's settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from shipway_common.settings import SettingsError
from shipway_master.config import MasterConfig, load_config


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
