"""docs/reliability.md names each test of this folder, and none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

_HERE = Path(__file__).parent


def test_the_table_of_what_was_tried_is_complete() -> None:
    page = (_HERE.parents[1] / "docs/reliability.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))
    others = [file for file in _HERE.glob("test_*.py") if file != Path(__file__)]
    there = {
        name
        for file in others
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    assert named == there
