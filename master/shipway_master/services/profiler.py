"""Profiler metrics: what the hardware of a task did while it ran."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from shipway_master.errors import InvalidArgument
from shipway_master.readings import Readings, Series
from shipway_master.rpc import Call
from shipway_master.times import to_datetime
from shipway_master.trialmetrics.facts import KnownTrials
from shipway_proto.determined.api.v1.trial_pb2 import (
    GetTrialProfilerAvailableSeriesRequest,
    GetTrialProfilerAvailableSeriesResponse,
    GetTrialProfilerMetricsRequest,
    GetTrialProfilerMetricsResponse,
    PostTrialProfilerMetricsBatchRequest,
    PostTrialProfilerMetricsBatchResponse,
)
from shipway_proto.determined.trial.v1.trial_pb2 import (
    TrialProfilerMetricLabels,
    TrialProfilerMetricsBatch,
)


class ProfilerService:
    """The RPCs of the profiler."""

    def __init__(self, readings: Readings, trials: KnownTrials) -> None:
        self._readings, self._trials = readings, trials

    async def PostTrialProfilerMetricsBatch(
        self, request: PostTrialProfilerMetricsBatchRequest, call: Call
    ) -> PostTrialProfilerMetricsBatchResponse:
        """Store readings."""
        for batch in request.batches:
            _check(batch)
        for trial_id in {batch.labels.trial_id for batch in request.batches}:
            await self._trials.get_for_report(trial_id, call.principal)
        await self._readings.append(
            [(_series(batch.labels), batch.SerializeToString()) for batch in request.batches]
        )
        return PostTrialProfilerMetricsBatchResponse()

    async def GetTrialProfilerMetrics(
        self, request: GetTrialProfilerMetricsRequest, call: Call
    ) -> AsyncIterator[GetTrialProfilerMetricsResponse]:
        """Read the readings of one series, or of all that the given labels fit."""
        _require_trial(request.labels.trial_id)
        wanted = _series(request.labels)
        return _metrics(self._readings.read(wanted, follow=request.follow))

    async def GetTrialProfilerAvailableSeries(
        self, request: GetTrialProfilerAvailableSeriesRequest, call: Call
    ) -> AsyncIterator[GetTrialProfilerAvailableSeriesResponse]:
        """List the series of a trial."""
        _require_trial(request.trial_id)
        return _labels(self._readings.series(request.trial_id, follow=request.follow))


async def _metrics(
    batches: AsyncGenerator[bytes],
) -> AsyncGenerator[GetTrialProfilerMetricsResponse]:
    async with aclosing(batches):
        async for batch in batches:
            yield GetTrialProfilerMetricsResponse(batch=TrialProfilerMetricsBatch.FromString(batch))


async def _labels(
    lists: AsyncGenerator[list[Series]],
) -> AsyncGenerator[GetTrialProfilerAvailableSeriesResponse]:
    async with aclosing(lists):
        async for series in lists:
            labels = [
                TrialProfilerMetricLabels(
                    trial_id=one.trial_id,
                    name=one.name,
                    agent_id=one.agent_id,
                    gpu_uuid=one.gpu_uuid,
                    metric_type=TrialProfilerMetricLabels.ProfilerMetricType.ValueType(
                        one.metric_type
                    ),
                )
                for one in series
            ]
            yield GetTrialProfilerAvailableSeriesResponse(labels=labels)


def _series(labels: TrialProfilerMetricLabels) -> Series:
    return Series(
        trial_id=labels.trial_id,
        name=labels.name,
        agent_id=labels.agent_id,
        gpu_uuid=labels.gpu_uuid,
        metric_type=labels.metric_type,
    )


def _require_trial(trial_id: int) -> None:
    if trial_id <= 0:
        raise InvalidArgument("a trial id is needed")


def _check(batch: TrialProfilerMetricsBatch) -> None:
    _require_trial(batch.labels.trial_id)
    if not batch.labels.name:
        raise InvalidArgument("a batch needs the name of its series")
    if len(batch.timestamps) != len(batch.values):
        raise InvalidArgument("a batch needs as many timestamps as values")
    for stamp in batch.timestamps:
        to_datetime(stamp)
    if len(batch.batches) not in (0, len(batch.values)):
        raise InvalidArgument("a batch needs as many batch numbers as values, or none")
