from __future__ import annotations

import pytest

from shipway_agent.logs.prefix import split_prefix


@pytest.mark.parametrize(
    ("line", "level", "text"),
    [
        ("hello", "UNSPECIFIED", "hello"),
        ("INFO: hello", "INFO", "hello"),
        ("WARNING:  two blanks", "WARNING", " two blanks"),
        ("ERROR:", "ERROR", ""),
        ("[rank=3] DEBUG: x", "DEBUG", "[rank=3] x"),
        ("[rank=3] x", "UNSPECIFIED", "[rank=3] x"),
        ("INFORM: x", "UNSPECIFIED", "INFORM: x"),
        (" INFO: x", "UNSPECIFIED", " INFO: x"),
        ("see INFO: x", "UNSPECIFIED", "see INFO: x"),
        ("", "UNSPECIFIED", ""),
    ],
)
def test_the_level_at_a_lines_beginning_is_taken_off(line: str, level: str, text: str) -> None:
    assert split_prefix(line) == (level, text)
