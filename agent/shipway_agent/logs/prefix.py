"""The rank and level that a program writes before a line, as the harness and many others do.

The forms are those of the original's log shipper: `[rank=N]`, then `LEVEL:`, each with at most one
blank before and after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple, cast

LineLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "UNSPECIFIED"]

_RANK = rb" ?\[rank=(?P<rank>\d{1,9})\] ?"  # nine digits fit the wire's 32 bits, whatever they are
_LEVEL = rb" ?(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL): ?"
_form = re.compile(b"(?:" + _RANK + b")?(?:" + _LEVEL + b")?")
_line = re.compile(b"(" + re.sub(rb"\?P<\w+>", b"?:", _form.pattern) + rb")(.*\n)")
# A pattern that begins with one certain byte is looked for many times faster than `^` with re.M.
_any_line = re.compile(rb"\n ?(?:\[rank=\d{1,9}\]|(?:DEBUG|INFO|WARNING|ERROR|CRITICAL):)")
_BEGINNINGS = frozenset(b" [DIWEC")


class Label(NamedTuple):
    """What was found before a line."""

    rank: int | None
    level: LineLevel


def any_prefix(text: bytes) -> bool:
    """Tell whether any line of *text*, which begins with one, has a rank or a level; quickly."""
    return _any_line.search(text) is not None or prefix_length(text) > 0


def prefix_length(line: bytes) -> int:
    """Return how many bytes of *line* are rank and level."""
    # Most lines begin with something else, and to see that costs a tenth of a match.
    found = _form.match(line) if line and line[0] in _BEGINNINGS else None
    return 0 if found is None else found.end()


def split_prefixes(lines: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """Cut each of many lines behind its rank and level; each must have one LF, at its end."""
    return _line.findall(b"".join(lines))


def parse_prefix(prefix: bytes) -> Label:
    """Read what was cut off a line."""
    found = _form.fullmatch(prefix)
    if found is None:
        raise ValueError(f"{prefix[:100]!r} is no prefix of a line")
    rank, level = found["rank"], found["level"]
    return Label(
        None if rank is None else int(rank),
        "UNSPECIFIED" if level is None else cast("LineLevel", level.decode()),
    )
