"""Spans of time as clients write them."""

from __future__ import annotations

import re
from datetime import timedelta

from shipway_master.errors import InvalidArgument

_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s|us|µs|ns)", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """Read a duration in the Go language's form, such as `72h30m`.

    Raises:
        InvalidArgument: It is none, or negative, or longer than a thousand years.
    """
    parts = list(_PART.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise InvalidArgument(f"{text!r} is no duration; write it as 72h, 30m or 72h30m")
    try:
        return timedelta(seconds=sum(float(part[1]) * _UNITS_S[part[2]] for part in parts))
    except OverflowError as error:
        raise InvalidArgument(f"{text!r} is too long") from error
