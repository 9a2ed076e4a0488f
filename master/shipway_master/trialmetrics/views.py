"""Stored reports as the API has them."""

from __future__ import annotations

from shipway_master.queries.views import stamp
from shipway_master.structs import set_value, to_struct
from shipway_master.trialmetrics.downsample import Point
from shipway_master.trialmetrics.groups import VALIDATION
from shipway_master.trialmetrics.reading import StoredReport
from shipway_proto.determined.api.v1.experiment_pb2 import DataPoint
from shipway_proto.determined.trial.v1.trial_pb2 import MetricsReport, MetricsWorkload


def view_report(report: StoredReport) -> MetricsReport:
    """Write a report.

    Clients look for validation metrics under a name of their own when they ask for those alone,
    and under the common one otherwise.
    """
    message = MetricsReport(
        trial_id=report.trial_id,
        end_time=stamp(report.reported_at),
        total_batches=report.steps or 0,
        id=report.id,
        trial_run_id=report.run,
        group=report.group,
    )
    fields = message.metrics.fields
    set_value(fields["avg_metrics"], report.metrics)
    if report.group == VALIDATION:
        set_value(fields["validation_metrics"], report.metrics)
    if report.batch_metrics:
        set_value(fields["batch_metrics"], report.batch_metrics)
    return message


def view_workload(report: StoredReport) -> MetricsWorkload:
    """Write a report as a step of its trial."""
    message = MetricsWorkload(end_time=stamp(report.reported_at), total_batches=report.steps or 0)
    to_struct(report.metrics, message.metrics.avg_metrics)
    message.metrics.avg_metrics.SetInParent()
    for batch in report.batch_metrics or ():
        to_struct(batch, message.metrics.batch_metrics.add())
    return message


def view_point(point: Point) -> DataPoint:
    """Write a point of a curve."""
    message = DataPoint(batches=point.steps, time=stamp(point.reported_at), epoch=point.epoch)
    to_struct(point.values, message.values)
    message.values.SetInParent()
    return message
