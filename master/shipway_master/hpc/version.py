"""Whether a launcher is new enough."""

from __future__ import annotations

import re

MINIMUM = (3, 3, 1)

_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")


def explain_version(text: str) -> str:
    """Say what is wrong with a launcher's version; empty if nothing is."""
    match = _VERSION.fullmatch(text.removesuffix("-SNAPSHOT"))
    wanted = ".".join(map(str, MINIMUM))
    if match is None:
        return f"the launcher's version {text[:100]!r} cannot be read; {wanted} or newer is needed"
    numbers = (int(match[1]), int(match[2]), int(match[3]))
    if numbers < MINIMUM or (numbers == MINIMUM and match[4]):
        return f"the launcher's version {text} is too old; {wanted} or newer is needed"
    return ""
