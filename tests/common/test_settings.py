"""Flags over environment over file over defaults; every mistake at once."""

from __future__ import annotations

import pytest
from pydantic import Field

from shipway_common.settings import Settings, SettingsError, parse_settings


class Relay(Settings):
    port: int = 0
    host: str = "127.0.0.1"


class Example(Settings):
    name: str = "default"
    limit_s: float = Field(default=1.0, gt=0)
    relay: Relay = Relay()


def test_a_later_source_wins_key_by_key() -> None:
    settings = parse_settings(
        Example,
        file_text="name: file\nlimit_s: 2\nrelay: {port: 1, host: a}\n",
        environment={"name": "environment", "relay": {"port": 2}},
        flags={"name": "flag", "limit_s": None},
    )
    assert settings == Example(name="flag", limit_s=2.0, relay=Relay(port=2, host="a"))


def test_nothing_given_is_no_value_at_any_depth() -> None:
    settings = parse_settings(Example, flags={"name": None, "relay": {"port": None, "host": "b"}})
    assert settings == Example(relay=Relay(host="b"))


def test_every_mistake_is_named_with_its_key() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(
            Example, file_text="nmae: x\nlimit_s: -1\nrelay: {port: many}\n", file_name="a.yaml"
        )
    for part in ("a.yaml", "nmae", "limit_s", "relay.port"):
        assert part in str(caught.value)
    assert "nmae: unknown key; did you mean name?" in str(caught.value)


def test_a_number_in_the_place_of_a_text_wants_quotes() -> None:
    with pytest.raises(SettingsError, match=r"name: it must be a text; .* needs quotes"):
        parse_settings(Example, file_text="name: 7\n", file_name="a.yaml")


def test_a_mistake_is_told_at_the_place_where_it_was_made() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(
            Example,
            file_text="limit_s: -1\nrelay: {host: h, prot: 5}\n",
            file_name="a.yaml",
            environment={"relay": {"port": "many"}, "name": "n"},
            flags={"limit_s": "-2"},
            name_variable=lambda key: f"${key}",
            name_flag=lambda key: f"--{key}",
        )
    places = [problem.place for problem in caught.value.problems]
    assert sorted(places) == ["$relay.port", "--limit_s", "a.yaml: relay.prot"]


def test_a_wrong_section_is_a_mistake_beside_flags_that_are_not_given_too() -> None:
    with pytest.raises(SettingsError, match="relay: "):
        parse_settings(Example, file_text="relay: 5", flags={"relay": {"port": None}})


@pytest.mark.parametrize("text", ["- a list", "just text", "a: [unclosed"])
def test_a_file_that_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"a\.yaml"):
        parse_settings(Example, file_text=text, file_name="a.yaml")


def test_an_empty_file_means_defaults() -> None:
    assert parse_settings(Example, file_text="# nothing\n") == Example()
