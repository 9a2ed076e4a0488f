"""Reported metrics, report by report."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from shipway_master.errors import InvalidArgument
from shipway_master.rpc import Call
from shipway_master.trialmetrics.facts import KnownTrials
from shipway_master.trialmetrics.groups import TRAINING, VALIDATION
from shipway_master.trialmetrics.reading import StoredMetrics
from shipway_master.trialmetrics.views import view_report
from shipway_proto.determined.api.v1 import trial_pb2 as api
from shipway_proto.determined.trial.v1.trial_pb2 import MetricsReport


class TrialMetricService:
    """The RPCs that stream all reports of some trials."""

    def __init__(self, trials: KnownTrials, metrics: StoredMetrics) -> None:
        self._trials, self._metrics = trials, metrics

    async def GetMetrics(
        self, request: api.GetMetricsRequest, call: Call
    ) -> AsyncIterator[api.GetMetricsResponse]:
        """Read the reports of one group, or of all."""
        pages = await self._read(request.trial_ids, request.group)
        return (api.GetMetricsResponse(metrics=page) async for page in pages)

    async def GetTrainingMetrics(
        self, request: api.GetTrainingMetricsRequest, call: Call
    ) -> AsyncIterator[api.GetTrainingMetricsResponse]:
        """Read the training metrics."""
        pages = await self._read(request.trial_ids, TRAINING)
        return (api.GetTrainingMetricsResponse(metrics=page) async for page in pages)

    async def GetValidationMetrics(
        self, request: api.GetValidationMetricsRequest, call: Call
    ) -> AsyncIterator[api.GetValidationMetricsResponse]:
        """Read the validation metrics."""
        pages = await self._read(request.trial_ids, VALIDATION)
        return (api.GetValidationMetricsResponse(metrics=page) async for page in pages)

    async def _read(
        self, trial_ids: Sequence[int], group: str
    ) -> AsyncGenerator[list[MetricsReport]]:
        if not trial_ids:
            raise InvalidArgument("at least one trial id is needed")
        for trial_id in trial_ids:
            await self._trials.get(trial_id)
        return self._pages(sorted(set(trial_ids)), group)

    async def _pages(
        self, trial_ids: Sequence[int], group: str
    ) -> AsyncGenerator[list[MetricsReport]]:
        for trial_id in trial_ids:
            pages = self._metrics.read(trial_id, groups={group} if group else (), with_batches=True)
            async with aclosing(pages):
                async for page in pages:
                    yield [view_report(report) for report in page]
