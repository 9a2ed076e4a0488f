"""Metrics of whole experiments, as they turn up."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from shipway_master.errors import InvalidArgument
from shipway_master.rpc import Call
from shipway_master.store.database import Database
from shipway_master.store.trialmetrics import TrialMetricRow
from shipway_master.structs import to_struct
from shipway_master.trialmetrics.best import Candidate, load_best
from shipway_master.trialmetrics.curves import Wanted, load_curves
from shipway_master.trialmetrics.downsample import Point
from shipway_master.trialmetrics.groups import (
    TRAINING,
    VALIDATION,
    GroupRequest,
    groups_of_request,
)
from shipway_master.trialmetrics.names import MetricName, load_names
from shipway_master.trialmetrics.reading import StoredMetrics
from shipway_master.trialmetrics.rounds import Rounds, Watched
from shipway_master.trialmetrics.series import Metric, load_steps_of
from shipway_master.trialmetrics.snapshot import Shot, load_snapshot
from shipway_master.trialmetrics.views import view_point
from shipway_proto.determined.api.v1 import experiment_pb2 as api
from shipway_proto.determined.metric.v1.metric_pb2 import MetricIdentifier

_MOST_TRIALS = 25
_MOST_POINTS = 1000
_TRIALS_LIMIT = 1000


class MetricStreamService:
    """The RPCs that follow the metrics of an experiment to its end."""

    def __init__(self, database: Database, metrics: StoredMetrics, rounds: Rounds) -> None:
        self._database, self._metrics, self._rounds = database, metrics, rounds

    async def ExpMetricNames(
        self, request: api.ExpMetricNamesRequest, call: Call
    ) -> AsyncIterator[api.ExpMetricNamesResponse]:
        """Tell the names of metrics, each once."""
        watched = await self._rounds.load(set(request.ids))
        return self._names(watched, request.period_seconds)

    async def MetricBatches(
        self, request: api.MetricBatchesRequest, call: Call
    ) -> AsyncIterator[api.MetricBatchesResponse]:
        """Tell the steps at which a metric was reported, each once."""
        await self._rounds.load([request.experiment_id])
        metric = _read_metric(request.experiment_id, request.metric_name, request)
        return self._batches(metric, request.period_seconds)

    async def TrialsSnapshot(
        self, request: api.TrialsSnapshotRequest, call: Call
    ) -> AsyncIterator[api.TrialsSnapshotResponse]:
        """Tell a metric of all trials at one step, of each trial as often as it changes."""
        await self._rounds.load([request.experiment_id])
        metric = _read_metric(request.experiment_id, request.metric_name, request)
        if request.batches_processed < 0 or request.batches_margin < 0:
            raise InvalidArgument("batches_processed and batches_margin are not below 0")
        return self._shots(metric, request)

    async def TrialsSample(
        self, request: api.TrialsSampleRequest, call: Call
    ) -> AsyncIterator[api.TrialsSampleResponse]:
        """Tell the curves of the best trials, and how they go on."""
        [watched] = await self._rounds.load([request.experiment_id])
        metric = _read_metric(request.experiment_id, request.metric_name, request)
        if request.max_trials < 0 or request.max_datapoints < 0:
            raise InvalidArgument("max_trials and max_datapoints are not below 0")
        if request.max_trials > _TRIALS_LIMIT:
            raise InvalidArgument(f"max_trials is above {_TRIALS_LIMIT}")
        return self._sample(watched, metric, request)

    async def _names(
        self, watched: list[Watched], period_s: int
    ) -> AsyncGenerator[api.ExpMetricNamesResponse]:
        ids = [one.id for one in watched]
        judges = sorted({one.metric.name for one in watched if one.metric is not None})
        sent: set[MetricName] = set()
        async with aclosing(self._rounds.go(ids, period_s)) as rounds:
            async for is_first in rounds:
                new = await load_names(self._database, ids) - sent
                if new or is_first:
                    yield _view_names(sorted(new), judges if is_first else [])
                sent |= new

    async def _batches(
        self, metric: Metric, period_s: int
    ) -> AsyncGenerator[api.MetricBatchesResponse]:
        sent: set[int] = set()
        async with aclosing(self._rounds.go([metric.experiment_id], period_s)) as rounds:
            async for is_first in rounds:
                new = await load_steps_of(self._database, metric) - sent
                if new or is_first:
                    yield api.MetricBatchesResponse(batches=sorted(new))
                sent |= new

    async def _shots(
        self, metric: Metric, request: api.TrialsSnapshotRequest
    ) -> AsyncGenerator[api.TrialsSnapshotResponse]:
        sent: dict[int, Shot] = {}
        period_s = request.period_seconds
        async with aclosing(self._rounds.go([metric.experiment_id], period_s)) as rounds:
            async for is_first in rounds:
                shots = await load_snapshot(
                    self._database,
                    metric,
                    steps=request.batches_processed,
                    margin=request.batches_margin,
                )
                new = [shot for shot in shots if sent.get(shot.trial_id) != shot]
                if new or is_first:
                    yield api.TrialsSnapshotResponse(trials=map(_view_shot, new))
                sent |= {shot.trial_id: shot for shot in new}

    async def _sample(
        self, watched: Watched, metric: Metric, request: api.TrialsSampleRequest
    ) -> AsyncGenerator[api.TrialsSampleResponse]:
        best: set[int] = set()
        ends: dict[int, int] = {}
        async with aclosing(self._rounds.go([watched.id], request.period_seconds)) as rounds:
            async for is_first in rounds:
                limit = request.max_trials or _MOST_TRIALS
                found = await load_best(self._database, watched, metric, limit=limit)
                now = {one.trial_id for one in found}
                answer = api.TrialsSampleResponse(
                    promoted_trials=sorted(now - best), demoted_trials=sorted(best - now)
                )
                best = now
                for one in found:
                    points = await self._load_points(metric, request, one, ends)
                    if points:
                        ends[one.trial_id] = points[-1].steps
                        answer.trials.append(_view_sample(one, points))
                if is_first or answer.ByteSize():
                    yield answer

    async def _load_points(
        self,
        metric: Metric,
        request: api.TrialsSampleRequest,
        one: Candidate,
        ends: dict[int, int],
    ) -> list[Point]:
        wanted = Wanted(
            names={group: [metric.name] for group in metric.groups or ("",)},
            start=max(request.start_batches, ends.get(one.trial_id, -1) + 1),
            end=request.end_batches,
            limit=request.max_datapoints or _MOST_POINTS,
            where=[TrialMetricRow.steps.is_not(None)],
        )
        curves = await load_curves(self._metrics, one.trial_id, wanted)
        points = [point for points in curves.values() for point in points]
        return sorted(points, key=lambda point: point.steps)


def _read_metric(experiment_id: int, name: str, request: GroupRequest) -> Metric:
    if not name:
        raise InvalidArgument("metric_name is missing")
    return Metric(experiment_id=experiment_id, groups=groups_of_request(request), name=name)


def _view_names(names: list[MetricName], judges: list[str]) -> api.ExpMetricNamesResponse:
    return api.ExpMetricNamesResponse(
        searcher_metrics=judges,
        training_metrics=[one.name for one in names if one.group == TRAINING],
        validation_metrics=[one.name for one in names if one.group == VALIDATION],
        metric_names=[MetricIdentifier(group=one.group, name=one.name) for one in names],
    )


def _view_shot(shot: Shot) -> api.TrialsSnapshotResponse.Trial:
    return api.TrialsSnapshotResponse.Trial(
        trial_id=shot.trial_id,
        hparams=to_struct(shot.hparams),
        metric=shot.number,
        batches_processed=shot.steps,
    )


def _view_sample(one: Candidate, points: list[Point]) -> api.TrialsSampleResponse.Trial:
    return api.TrialsSampleResponse.Trial(
        trial_id=one.trial_id, hparams=to_struct(one.hparams), data=map(view_point, points)
    )
