"""The part of a log that a request asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shipway_launcher.logs import Log, Span, find_last_lines, find_lines

_FORM = re.compile(r"(bytes|lines)=([0-9]*)-([0-9]*)", re.IGNORECASE)
_ENDLESS = 10**18
"""More than any log has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A Range header; bytes count from zero, lines from one, both ends belong to it."""

    unit: str
    first: int | None
    last: int | None
    """With no *first*: how many at the end."""


class Unsatisfiable(Exception):
    """The log has no such part."""


def parse_range(header: str | None) -> Wanted | None:
    """Read a Range header; None stands for the whole log, also where the header is no range."""
    match = _FORM.fullmatch((header or "").replace(" ", ""))
    if match is None:
        return None
    unit, first, last = match.groups()
    start, end = _number(first), _number(last)
    if start is None and end is None:
        return None
    if start is not None and ((end is not None and end < start) or (unit == "lines" and not start)):
        return None
    return Wanted(unit=unit.lower(), first=start, last=end)


def _number(digits: str) -> int | None:
    """Read a number; Python reads none with thousands of digits, and a header has room for them."""
    if not digits:
        return None
    counting = digits.lstrip("0") or "0"
    return int(counting) if len(counting) <= len(str(_ENDLESS)) else _ENDLESS


async def find_span(log: Log, wanted: Wanted | None) -> Span:
    """Find the wanted part; a part of an empty log is empty.

    Raises:
        Unsatisfiable: It begins behind the end.
    """
    if wanted is None or log.size == 0:
        return Span(0, log.size)
    if wanted.first is None:
        count = wanted.last or 0
        if count == 0:
            raise Unsatisfiable
        if wanted.unit == "lines":
            return await find_last_lines(log, count)
        return Span(max(0, log.size - count), log.size)
    if wanted.unit == "lines":
        span = await find_lines(log, wanted.first, wanted.last)
        if span is None:
            raise Unsatisfiable
        return span
    if wanted.first >= log.size:
        raise Unsatisfiable
    last = log.size - 1 if wanted.last is None else min(wanted.last, log.size - 1)
    return Span(wanted.first, last + 1)
