"""What runs may keep as metadata."""

from __future__ import annotations

from typing import Any

import pytest

from shipway_master.errors import InvalidArgument
from shipway_master.queries.metadata import check_metadata


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"a.b": 1},
        {'"': 1},
        {"k" * 51: 1},
        {"a": "x" * 5001},
        {"a": [1] * 101},
        {f"k{number}": 1 for number in range(1001)},
        {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": 1}}}}}}}}}}},
    ],
    ids=range(8),
)
def test_metadata_that_cannot_be_searched_are_refused(metadata: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="metadata"):
        check_metadata(metadata)


def test_metadata_of_all_kinds_are_taken() -> None:
    check_metadata({"é": {"a": [1, "x", None, {"b": True}]}, "k" * 50: "x" * 5000})
