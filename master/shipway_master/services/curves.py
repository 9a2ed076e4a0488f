"""Curves of several trials side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import select

from shipway_master.errors import InvalidArgument, NotFound
from shipway_master.queries.loading import load_trials
from shipway_master.rpc import Call
from shipway_master.store.database import Database
from shipway_master.store.experiments import TrialRow
from shipway_master.trialmetrics.curves import Wanted, load_curves
from shipway_master.trialmetrics.groups import TRAINING, VALIDATION, groups_of_request
from shipway_master.trialmetrics.ranges import read_conditions, read_test
from shipway_master.trialmetrics.reading import StoredMetrics
from shipway_master.trialmetrics.views import view_point
from shipway_proto.determined.api.v1 import trial_pb2 as api
from shipway_proto.determined.api.v1.experiment_pb2 import MetricType
from shipway_proto.determined.trial.v1.trial_pb2 import Trial

_MOST_POINTS = 500
_MOST_TRIALS = 1000
_TYPES = {
    TRAINING: MetricType.METRIC_TYPE_TRAINING,
    VALIDATION: MetricType.METRIC_TYPE_VALIDATION,
}


class CurveService:
    """The RPC that compares trials."""

    def __init__(self, database: Database, metrics: StoredMetrics) -> None:
        self._database, self._metrics = database, metrics

    async def CompareTrials(
        self, request: api.CompareTrialsRequest, call: Call
    ) -> api.CompareTrialsResponse:
        """Give out the curves of trials, each with as many points as are wanted."""
        if not 1 <= len(request.trial_ids) <= _MOST_TRIALS:
            raise InvalidArgument(f"1 to {_MOST_TRIALS} trial ids are needed")
        wanted = _read(request)
        response = api.CompareTrialsResponse()
        for trial in await self._load(request.trial_ids):
            curves = await load_curves(self._metrics, trial.id, wanted)
            compared = response.trials.add(trial=trial)
            for group, points in curves.items():
                compared.metrics.add(
                    data=map(view_point, points), group=group, type=_TYPES.get(group, 0)
                )
        return response

    async def _load(self, trial_ids: Sequence[int]) -> list[Trial]:
        async with self._database.reading() as session:
            found = await session.scalars(select(TrialRow).where(TrialRow.id.in_(trial_ids)))
            rows = {row.id: row for row in found}
            for trial_id in trial_ids:
                if trial_id not in rows:
                    raise NotFound("trial", trial_id)
            return await load_trials(session, [rows[one] for one in dict.fromkeys(trial_ids)])


def _read(request: api.CompareTrialsRequest) -> Wanted:
    if request.max_datapoints < 0:
        raise InvalidArgument("max_datapoints is below 0")
    has_range = request.HasField("time_series_filter")
    return Wanted(
        names=_read_names(request),
        start=request.start_batches,
        end=request.end_batches,
        limit=request.max_datapoints or _MOST_POINTS,
        where=read_conditions(request.time_series_filter) if has_range else (),
        passes=read_test(request.time_series_filter) if has_range else None,
    )


def _read_names(request: api.CompareTrialsRequest) -> Mapping[str, list[str]]:
    names: defaultdict[str, list[str]] = defaultdict(list)
    for metric_id in request.metric_ids:
        group, dot, name = metric_id.partition(".")
        if not (group and dot and name):
            raise InvalidArgument(f"metric id {metric_id[:80]!r}: it has the form GROUP.NAME")
        names[group].append(name)
    if request.metric_names or not names:
        for group in groups_of_request(request) or ("",):
            names[group] += request.metric_names
    return names
