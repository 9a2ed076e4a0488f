"""What the page about finding says is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shipway_master.errors import InvalidArgument
from shipway_master.queries.conditions import RUNS, compile_filter
from shipway_master.queries.filters import parse_filter
from shipway_master.queries.sorting import compile_sort
from tests.master.queries.test_filters import make_field, make_filter

PAGE = (Path(__file__).parents[3] / "docs" / "finding.md").read_text()


def test_the_filter_of_the_page_can_be_used() -> None:
    [text] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)

    found = parse_filter(text)
    compile_filter(found, RUNS)

    assert len(found.group.children) == 2


def test_the_sort_text_of_the_page_can_be_used() -> None:
    [text] = re.findall(r"`sort` is for example `(.*?)`", PAGE)

    assert len(compile_sort(text, RUNS)) == 4


def test_the_error_of_the_page_is_what_is_told() -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_filter(make_filter(make_field(operator="~")))

    assert f"\n{caught.value}\n" in PAGE
