from __future__ import annotations

import pytest

from shipway_agent.logs.prefix import any_prefix, parse_prefix, prefix_length


@pytest.mark.parametrize(
    ("line", "rank", "level", "text"),
    [
        (b"hello", None, "UNSPECIFIED", b"hello"),
        (b"INFO: hello", None, "INFO", b"hello"),
        (b"INFO:hello", None, "INFO", b"hello"),
        (b" INFO: x", None, "INFO", b"x"),
        (b"WARNING:  two blanks", None, "WARNING", b" two blanks"),
        (b"ERROR:", None, "ERROR", b""),
        (b"[rank=3] DEBUG: x", 3, "DEBUG", b"x"),
        (b"[rank=3]DEBUG:x", 3, "DEBUG", b"x"),
        (b" [rank=3]  CRITICAL: x", 3, "CRITICAL", b"x"),
        (b"[rank=3] x", 3, "UNSPECIFIED", b"x"),
        (b"[rank=0]", 0, "UNSPECIFIED", b""),
        (b"[rank=123456789]x", 123456789, "UNSPECIFIED", b"x"),
        (b"[rank=1234567890] x", None, "UNSPECIFIED", b"[rank=1234567890] x"),
        (b"[rank=-1] x", None, "UNSPECIFIED", b"[rank=-1] x"),
        (b"INFO: [rank=3] x", None, "INFO", b"[rank=3] x"),
        (b"INFORM: x", None, "UNSPECIFIED", b"INFORM: x"),
        (b"TRACE: x", None, "UNSPECIFIED", b"TRACE: x"),
        (b"  INFO: x", None, "UNSPECIFIED", b"  INFO: x"),
        (b"see INFO: x", None, "UNSPECIFIED", b"see INFO: x"),
        (b"", None, "UNSPECIFIED", b""),
    ],
)
def test_rank_and_level_at_a_lines_beginning_are_taken_off(
    line: bytes, rank: int | None, level: str, text: bytes
) -> None:
    cut = prefix_length(line)
    assert (parse_prefix(line[:cut]), line[cut:]) == ((rank, level), text)
    assert any_prefix(line) is any_prefix(b"first\n" + line + b"\nlast\n") is (cut > 0)
