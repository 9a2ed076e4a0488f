"""Spans of time as Go writes them, which is how Determined's settings and clients have them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator

from shipway_master.errors import InvalidArgument

_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s|us|µs|ns)", re.ASCII)
_PLAIN = re.compile(r"\d+(?:\.\d+)?", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """Read a duration that a client sent, such as `72h30m`.

    Raises:
        InvalidArgument: It is none, or negative, or longer than a thousand years.
    """
    try:
        return timedelta(seconds=_add_up(text))
    except ValueError as error:
        raise InvalidArgument(str(error)) from error
    except OverflowError as error:
        raise InvalidArgument(f"{text!r} is too long") from error


def parse_duration_s(value: object) -> object:
    """Turn `1h30m`, `25s` or `25` into seconds; what is no text is left for the model to judge.

    Raises:
        ValueError: The text is no duration.
    """
    if not isinstance(value, str):
        return value
    return float(value) if _PLAIN.fullmatch(value) else _add_up(value)


def render_duration(seconds: float) -> str:
    """Write a duration as Go does: 1h0m0s, 30m0s, 2.5s."""
    minutes, rest = divmod(round(seconds, 3), 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours}h{minutes}m{rest:g}s"
    return f"{minutes}m{rest:g}s" if minutes else f"{rest:g}s"


def _add_up(text: str) -> float:
    parts = list(_PART.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise ValueError(f"{text!r} is no duration; write it as 25s, 72h or 1h30m")
    return sum(float(part[1]) * _UNITS_S[part[2]] for part in parts)


DurationS = Annotated[float, BeforeValidator(parse_duration_s)]
"""Seconds; may be written as 25s, 5m, 1h30m."""
