"""Reports of trials: metrics, and which checkpoints they use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from shipway_master.rpc import Call
from shipway_master.trialmetrics.facts import KnownTrials
from shipway_master.trialmetrics.groups import TRAINING, VALIDATION
from shipway_master.trialmetrics.intake import MetricIntake
from shipway_master.trialmetrics.report import read_report
from shipway_proto.determined.api.v1 import trial_pb2 as api
from shipway_proto.determined.trial.v1.trial_pb2 import TrialMetrics

OnValidation = Callable[[int, int, Mapping[str, Any]], Awaitable[None]]
"""Is told of each validation, with trial, steps and metrics, when it is stored; a repeated one may
be told again."""


class TrialReportService:
    """The RPCs by which trials say what they measured."""

    def __init__(
        self, trials: KnownTrials, intake: MetricIntake, on_validation: OnValidation
    ) -> None:
        self._trials, self._intake, self._on_validation = trials, intake, on_validation

    async def ReportTrialMetrics(
        self, request: api.ReportTrialMetricsRequest, call: Call
    ) -> api.ReportTrialMetricsResponse:
        """Store metrics of any group."""
        await self._store(request.metrics, request.group, call)
        return api.ReportTrialMetricsResponse()

    async def ReportTrialTrainingMetrics(
        self, request: api.ReportTrialTrainingMetricsRequest, call: Call
    ) -> api.ReportTrialTrainingMetricsResponse:
        """Store training metrics."""
        await self._store(request.training_metrics, TRAINING, call)
        return api.ReportTrialTrainingMetricsResponse()

    async def ReportTrialValidationMetrics(
        self, request: api.ReportTrialValidationMetricsRequest, call: Call
    ) -> api.ReportTrialValidationMetricsResponse:
        """Store validation metrics."""
        await self._store(request.validation_metrics, VALIDATION, call)
        return api.ReportTrialValidationMetricsResponse()

    async def _store(self, message: TrialMetrics, group: str, call: Call) -> None:
        facts = await self._trials.get_for_report(message.trial_id, call.principal)
        report = read_report(message, group)
        await self._intake.store(report, facts)
        if group == VALIDATION:
            assert report.steps is not None
            await self._on_validation(report.trial_id, report.steps, report.metrics)
