"""What was measured best in experiments and projects."""

from __future__ import annotations

import math
from contextlib import aclosing

from sqlalchemy import func, select

from shipway_master.errors import NotFound
from shipway_master.queries.views import stamp
from shipway_master.rpc import Call
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.store.trialmetrics import TrialMetricRow
from shipway_master.store.workspaces import ProjectRow
from shipway_master.trialmetrics.extremes import load_extremes
from shipway_master.trialmetrics.facts import SearcherMetric, read_searcher_metric
from shipway_master.trialmetrics.groups import VALIDATION
from shipway_master.trialmetrics.series import Metric, read_values
from shipway_proto.determined.api.v1 import experiment_pb2 as api
from shipway_proto.determined.api.v1.project_pb2 import (
    GetProjectNumericMetricsRangeRequest,
    GetProjectNumericMetricsRangeResponse,
)
from shipway_proto.determined.experiment.v1.experiment_pb2 import ValidationHistoryEntry
from shipway_proto.determined.project.v1.project_pb2 import MetricsRange


class ExperimentMetricService:
    """The RPCs about the best of many trials."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def GetExperimentValidationHistory(
        self, request: api.GetExperimentValidationHistoryRequest, call: Call
    ) -> api.GetExperimentValidationHistoryResponse:
        """Tell when the best value of the searcher's metric got better."""
        metric = await self._load_metric(request.experiment_id)
        response = api.GetExperimentValidationHistoryResponse()
        if metric is None:
            return response
        best: float | None = None
        values = read_values(
            self._database,
            Metric(experiment_id=request.experiment_id, groups=[VALIDATION], name=metric.name),
            order=[TrialMetricRow.reported_at, TrialMetricRow.id],
        )
        async with aclosing(values):
            async for value in values:
                if metric.is_better(value.number, best):
                    best = value.number
                    response.validation_history.append(
                        ValidationHistoryEntry(
                            trial_id=value.trial_id,
                            end_time=stamp(value.reported_at),
                            searcher_metric=best,
                        )
                    )
        return response

    async def GetBestSearcherValidationMetric(
        self, request: api.GetBestSearcherValidationMetricRequest, call: Call
    ) -> api.GetBestSearcherValidationMetricResponse:
        """Tell the best value of the searcher's metric; NotFound while there is none."""
        metric = await self._load_metric(request.experiment_id)
        best: float | None = None
        if metric is not None:
            value = TrialRow.searcher_metric
            choose = func.min(value) if metric.smaller_is_better else func.max(value)
            statement = select(choose).where(TrialRow.experiment_id == request.experiment_id)
            async with self._database.reading() as session:
                best = await session.scalar(statement)
        if best is None:
            raise NotFound("validation metric of experiment", request.experiment_id)
        return api.GetBestSearcherValidationMetricResponse(metric=best)

    async def GetProjectNumericMetricsRange(
        self, request: GetProjectNumericMetricsRangeRequest, call: Call
    ) -> GetProjectNumericMetricsRangeResponse:
        """Tell between which values the metrics of a project lie."""
        async with self._database.reading() as session:
            if await session.get(ProjectRow, request.id) is None:
                raise NotFound("project", request.id)
        extremes = await load_extremes(self._database, request.id)
        return GetProjectNumericMetricsRangeResponse(
            ranges=[
                MetricsRange(metrics_name=f"{one.group}.{one.name}", min=low, max=high)
                for one, (low, high) in sorted(extremes.items())
                if not math.isnan(low)
            ]
        )

    async def _load_metric(self, experiment_id: int) -> SearcherMetric | None:
        statement = select(ExperimentRow.config).where(ExperimentRow.id == experiment_id)
        async with self._database.reading() as session:
            config = await session.scalar(statement)
        if config is None:
            raise NotFound("experiment", experiment_id)
        return read_searcher_metric(config)
