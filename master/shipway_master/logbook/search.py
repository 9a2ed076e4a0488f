"""What the text of a line is searched for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import re2 as untyped_re2  # pyright: ignore[reportMissingTypeStubs] (it has none)

from shipway_master.errors import InvalidArgument

re2: Any = untyped_re2
_LONGEST_PATTERN = 4096
_OF_ONE_LINE = re.compile(r"\\A|\\z|\(\?\w*-\w*m")
"""In a pattern, means the ends of a text even where that is many lines."""


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


def many_search(patterns: Sequence[str]) -> Callable[[Sequence[str]], bool]:
    """Build a quick test for many lines at once, which have no line ends.

    It is false only if none of *patterns* (each one of `pattern_search`) is found in any of them; if
    it is true, the lines have to be looked at one by one.
    """
    if any(_OF_ONE_LINE.search(pattern) for pattern in patterns):
        return lambda _: True
    try:
        search = pattern_search("(?m)" + "|".join(f"(?:{pattern})" for pattern in patterns))
    except InvalidArgument:  # together they are too long
        return lambda _: True
    return lambda texts: bool(search("\n".join(texts)))
