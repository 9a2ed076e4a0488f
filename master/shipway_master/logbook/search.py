"""What the text of a line is searched for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import re2 as untyped_re2  # pyright: ignore[reportMissingTypeStubs] (it has none)

from shipway_master.errors import InvalidArgument

re2: Any = untyped_re2
_LONGEST_PATTERN = 4096


def text_search(wanted: str) -> Callable[[str], object]:
    """Build a test for lines that contain *wanted*, whatever its case."""
    folded = wanted.casefold()
    return lambda text: folded in text.casefold()


def pattern_search(wanted: str) -> Callable[[str], object]:
    """Build a test for lines in which the regular expression *wanted* is found.

    It is one of RE2, as in the Go language: the time that it takes grows with the line alone, so
    nobody can stop the master with it.

    Raises:
        InvalidArgument: It is none, or too long.
    """
    if len(wanted) > _LONGEST_PATTERN:
        raise InvalidArgument(f"a pattern has at most {_LONGEST_PATTERN} characters")
    options = re2.Options()
    options.log_errors = False
    try:
        pattern = re2.compile(wanted.encode(), options)
    except re2.error as error:
        reason: str = error.args[0].decode(errors="replace")
        raise InvalidArgument(f"{wanted!r} is no regular expression: {reason}") from error
    return lambda text: pattern.search(text.encode())
