"""One report of a trial, and what is wrong with it before anything is looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shipway_master.errors import AlreadyExists, InvalidArgument
from shipway_master.structs import to_plain
from shipway_master.times import to_datetime
from shipway_master.trialmetrics.groups import TRAINING, VALIDATION, check_group
from shipway_master.trialmetrics.values import find_number, has_nul, to_stored
from shipway_proto.determined.trial.v1.trial_pb2 import TrialMetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one call brought."""

    trial_id: int
    run: int
    group: str
    steps: int | None
    """None only outside of training and validation."""
    reported_at: datetime
    metrics: Mapping[str, Any]
    batch_metrics: Sequence[Mapping[str, Any]]


def read_report(message: TrialMetrics, group: str) -> Report:
    """Check *message* as far as it alone tells, and turn it into a report.

    Raises:
        InvalidArgument: Its group, steps, time or epoch are not what they may be.
    """
    check_group(group)
    steps = message.steps_completed if message.HasField("steps_completed") else None
    if steps is None and group in (TRAINING, VALIDATION):
        raise InvalidArgument(f"a report of {group} metrics needs its steps_completed")
    if steps is not None and steps < 0:
        raise InvalidArgument(f"steps_completed is {steps}, below 0")
    metrics = to_plain(message.metrics.avg_metrics, number=to_stored)
    batches = [to_plain(batch, number=to_stored) for batch in message.metrics.batch_metrics]
    if has_nul(metrics) or has_nul(batches):
        raise InvalidArgument(
            "there is a NUL character in the metrics, which databases cannot hold"
        )
    for name in ("epoch", "epochs"):
        if name in metrics and find_number(metrics[name]) is None:
            raise InvalidArgument(f"the metric {name!r} must be a number")
    is_timed = message.HasField("report_time")
    return Report(
        trial_id=message.trial_id,
        run=message.trial_run_id,
        group=group,
        steps=steps,
        reported_at=to_datetime(message.report_time) if is_timed else datetime.now(UTC),
        metrics=metrics,
        batch_metrics=batches,
    )


def find_new(stored: Mapping[str, Any], reported: Mapping[str, Any]) -> dict[str, Any]:
    """Find what *reported* adds to what is *stored* of the same step.

    Raises:
        AlreadyExists: It has another value for a metric that is there.
    """
    new: dict[str, Any] = {}
    for name, value in reported.items():
        if name not in stored:
            new[name] = value
        elif stored[name] != value:
            raise AlreadyExists(
                f"the metric {name!r} of this step was reported before, with another value"
            )
    return new


def choose_batches(
    stored: Sequence[Any] | None, reported: Sequence[Mapping[str, Any]]
) -> Sequence[Any] | None:
    """Find the batch metrics of a step of which *stored* are known.

    Raises:
        AlreadyExists: Others were reported before.
    """
    if not reported or stored == reported:
        return stored
    if stored:
        raise AlreadyExists("batch metrics of this step were reported before, and other ones")
    return reported
