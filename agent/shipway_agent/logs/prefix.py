"""The level that a program writes at the beginning of a line, as the harness and many others do."""

from __future__ import annotations

import re
from typing import Literal, cast

LineLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "UNSPECIFIED"]

_form = re.compile(r"(?P<rank>\[rank=\d+\] ?)?(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL): ?")


def split_prefix(text: str) -> tuple[LineLevel, str]:
    """Take the level off a line; a rank before it stays.

    The master writes the level before the text again when it shows the line.
    """
    found = _form.match(text)
    if found is None:
        return "UNSPECIFIED", text
    rank = found["rank"] or ""
    return cast("LineLevel", found["level"]), rank + text[found.end() :]
