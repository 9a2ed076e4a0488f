"""Use as CSV, in the columns that people's scripts know."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime

from shipway_master.usage.runs import Run
from shipway_master.usage.sums import Sum

RAW_COLUMNS = (
    *("experiment_id", "kind", "username", "labels", "slots"),
    *("start_time", "end_time", "seconds"),
)
ALLOCATION_COLUMNS = (
    *("allocation_id", "task_type", "username", "workspace_name", "experiment_id", "slots"),
    *("start_time", "end_time", "imagepulling_time", "slot_hours", "resource_pool"),
)
SUM_COLUMNS = ("aggregation_type", "aggregation_key", "date", "seconds")


def write_rows(rows: Iterable[Sequence[object]]) -> str:
    """Write rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def raw_row(run: Run) -> Sequence[object]:
    """Write a run in `RAW_COLUMNS`."""
    return (
        *("", kind_of(run), run.username, "", run.slots),
        *(_moment(run.began_at), _moment(run.ended_at), _number(run.slot_seconds)),
    )


def allocation_row(run: Run) -> Sequence[object]:
    """Write a run in `ALLOCATION_COLUMNS`; how long its image was being pulled is not known."""
    return (
        *(run.allocation_id, run.task_type, run.username, run.workspace, "", run.slots),
        *(_moment(run.began_at), _moment(run.ended_at), "", _number(run.slot_seconds / 3600)),
        run.pool,
    )


def sum_rows(one: Sum) -> list[Sequence[object]]:
    """Write a sum in `SUM_COLUMNS`."""
    kinds = {"username": one.by_username, "resource_pool": one.by_pool}
    return [
        *(
            (kind, key, one.period.name, _number(seconds))
            for kind, parts in kinds.items()
            for key, seconds in sorted(parts.items())
        ),
        ("total", "total", one.period.name, _number(one.total)),
    ]


def kind_of(run: Run) -> str:
    """Say what a run was, as the API's raw entries do."""
    return run.task_type.lower()


def _moment(value: datetime) -> str:
    return f"{value:%Y-%m-%dT%H:%M:%S.%f}Z"


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")
