"""Durations as Go writes them, which is how Determined's settings have them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")


def parse_duration_s(value: object) -> object:
    """Turn `1h30m` or `25s` into seconds; what is no text is left for the model to judge.

    Raises:
        ValueError: The text is no duration.
    """
    if not isinstance(value, str):
        return value
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    parts = _PART.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise ValueError(f"{value!r} is no duration such as 25s or 1h30m")
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


def render_duration(seconds: float) -> str:
    """Write a duration as Go does: 1h0m0s, 30m0s, 2.5s."""
    minutes, rest = divmod(round(seconds, 3), 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours}h{minutes}m{rest:g}s"
    return f"{minutes}m{rest:g}s" if minutes else f"{rest:g}s"


DurationS = Annotated[float, BeforeValidator(parse_duration_s)]
"""Seconds; may be written as 25s, 5m, 1h30m."""
