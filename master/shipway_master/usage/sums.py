"""Slot-seconds summed up by day or month, in UTC."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from shipway_master.errors import InvalidArgument
from shipway_master.usage.runs import Run

_MOST_PERIODS = 4000
"""Ten years of days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A day or a month."""

    name: str
    """YYYY-MM-DD, or YYYY-MM."""
    begin: datetime
    end: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """The slot-seconds of one period, by what they are told apart by."""

    period: Period
    by_username: dict[str, float] = field(default_factory=lambda: defaultdict[str, float](float))
    by_pool: dict[str, float] = field(default_factory=lambda: defaultdict[str, float](float))

    @property
    def total(self) -> float:
        """The slot-seconds of all."""
        return sum(self.by_username.values())


def parse_periods(first: str, last: str, *, is_monthly: bool) -> list[Period]:
    """List the days or months from *first* to *last*, both included.

    Raises:
        InvalidArgument: They are no days (months), in the wrong order, or too far apart.
    """
    kind, form = ("months", "YYYY-MM") if is_monthly else ("days", "YYYY-MM-DD")
    try:
        begin, end = (_parse(text, is_monthly=is_monthly) for text in (first, last))
        periods: list[Period] = []
        while begin <= end and len(periods) <= _MOST_PERIODS:
            after = _next(begin, is_monthly=is_monthly)
            name = begin.date().isoformat()[: len(form)]
            periods.append(Period(name=name, begin=begin, end=after))
            begin = after
    except (ValueError, OverflowError) as error:
        raise InvalidArgument(
            f"start_date and end_date must be {kind} as {form}, not {first!r} and {last!r}"
        ) from error
    if not periods:
        raise InvalidArgument(f"start_date {first} is after end_date {last}")
    if len(periods) > _MOST_PERIODS:
        raise InvalidArgument(f"{first} to {last} are more than {_MOST_PERIODS} {kind}")
    return periods


def _parse(text: str, *, is_monthly: bool) -> datetime:
    return datetime.strptime(text, "%Y-%m" if is_monthly else "%Y-%m-%d").replace(tzinfo=UTC)


def _next(begin: datetime, *, is_monthly: bool) -> datetime:
    return (begin + timedelta(days=31)).replace(day=1) if is_monthly else begin + timedelta(days=1)


async def sum_up(pages: AsyncIterable[Sequence[Run]], periods: Sequence[Period]) -> list[Sum]:
    """Add up what each run used in each of *periods*, which follow each other without a gap."""
    sums = [Sum(period=period) for period in periods]
    begins = [period.begin for period in periods]
    async for page in pages:
        for run in page:
            if not run.slots:
                continue
            for one in sums[max(0, bisect_right(begins, run.began_at) - 1) :]:
                if one.period.begin >= run.ended_at:
                    break
                begin, end = max(run.began_at, one.period.begin), min(run.ended_at, one.period.end)
                seconds = (end - begin).total_seconds() * run.slots
                one.by_username[run.username] += seconds
                one.by_pool[run.pool] += seconds
    return sums
