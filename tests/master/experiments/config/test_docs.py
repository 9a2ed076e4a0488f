"""docs/experiments.md: its table is as the models are, and its example as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shipway_master.experiments.config import BadExperimentConfig
from shipway_master.experiments.config._reference import REFERENCE
from shipway_master.yamltext import parse_yaml
from tests.master.experiments.config.building import parse

PAGE = (Path(__file__).parents[4] / "docs/experiments.md").read_text()


def test_the_table_of_keys_is_as_the_models_are() -> None:
    stale = [path.name for path, text in REFERENCE.pages().items() if path.read_text() != text]
    assert stale == [], "run python -m shipway_master.experiments.config._reference"


def test_each_key_has_words() -> None:
    rows = re.findall(r"(?m)^\| `([^`]+)` \| [^|]* \| (.*) \|$", PAGE)
    assert len(rows) > 100
    assert [key for key, words in rows if not words.removeprefix("Required.").strip()] == []


def test_the_example_is_a_configuration() -> None:
    example, *_ = re.findall(r"(?s)```yaml\n(.*?)```", PAGE)
    assert parse(example).name == "mnist"


def test_the_mistakes_are_told_as_on_the_page() -> None:
    [told] = re.findall(r"(?s)```\n(invalid .*?)\n```", PAGE)
    example, *_ = re.findall(r"(?s)```yaml\n(.*?)```", PAGE)
    source = parse_yaml(example)
    source["resources"]["slot_per_trial"] = 2
    del source["searcher"]["metric"]
    with pytest.raises(BadExperimentConfig) as caught:
        parse({**source, "max_restarts": -1})
    assert str(caught.value) == told.replace("\n", " ")
