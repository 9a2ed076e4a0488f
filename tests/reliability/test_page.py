"""docs/reliability.md names each test of this folder and of kills, and none that is not there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_HERE = Path(__file__).parent


def test_the_table_of_what_was_tried_is_complete() -> None:
    page = (_HERE.parents[1] / "docs/reliability.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))
    to_name = [*_HERE.glob("test_*.py"), *_HERE.parent.rglob("test_kills*.py")]
    assert _tests_in(to_name) - named == set()
    assert named - _tests_in(_HERE.parent.rglob("test_*.py")) == set()


def _tests_in(files: Iterable[Path]) -> set[str]:
    return {
        name
        for file in files
        if file != Path(__file__)
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    }
