"""What people note about experiments: labels, place, whether they are put aside, their logs' time."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

from shipway_master.queries.loading import get_experiment_row, get_trial_row
from shipway_master.retention import FOREVER, RetentionPolicy
from shipway_master.rpc import Call
from shipway_master.services.actions import ExperimentActions
from shipway_master.store.database import Database
from shipway_proto.determined.api.v1.experiment_pb2 import (
    ArchiveExperimentRequest,
    ArchiveExperimentResponse,
    DeleteExperimentLabelRequest,
    DeleteExperimentLabelResponse,
    MoveExperimentRequest,
    MoveExperimentResponse,
    PutExperimentLabelRequest,
    PutExperimentLabelResponse,
    PutExperimentRetainLogsRequest,
    PutExperimentRetainLogsResponse,
    UnarchiveExperimentRequest,
    UnarchiveExperimentResponse,
)
from shipway_proto.determined.api.v1.trial_pb2 import (
    GetTrialRemainingLogRetentionDaysRequest,
    GetTrialRemainingLogRetentionDaysResponse,
    PutTrialRetainLogsRequest,
    PutTrialRetainLogsResponse,
)

_DAY_S: Final = 86400


class ExperimentMarkService:
    """The RPCs that change what is noted about one experiment or trial."""

    def __init__(
        self, database: Database, actions: ExperimentActions, retention: RetentionPolicy
    ) -> None:
        self._database, self._actions, self._retention = database, actions, retention

    async def ArchiveExperiment(
        self, request: ArchiveExperimentRequest, call: Call
    ) -> ArchiveExperimentResponse:
        """Put an experiment that has ended aside."""
        await self._actions.archive(request.id, call.principal, is_archived=True)
        return ArchiveExperimentResponse()

    async def UnarchiveExperiment(
        self, request: UnarchiveExperimentRequest, call: Call
    ) -> UnarchiveExperimentResponse:
        """Put an experiment back among the others."""
        await self._actions.archive(request.id, call.principal, is_archived=False)
        return UnarchiveExperimentResponse()

    async def MoveExperiment(
        self, request: MoveExperimentRequest, call: Call
    ) -> MoveExperimentResponse:
        """Move an experiment into another project."""
        await self._actions.move(
            request.experiment_id, request.destination_project_id, call.principal
        )
        return MoveExperimentResponse()

    async def PutExperimentLabel(
        self, request: PutExperimentLabelRequest, call: Call
    ) -> PutExperimentLabelResponse:
        """Give an experiment a label."""
        labels = await self._actions.label(
            request.experiment_id, request.label, call.principal, is_wanted=True
        )
        return PutExperimentLabelResponse(labels=labels)

    async def DeleteExperimentLabel(
        self, request: DeleteExperimentLabelRequest, call: Call
    ) -> DeleteExperimentLabelResponse:
        """Take a label from an experiment."""
        labels = await self._actions.label(
            request.experiment_id, request.label, call.principal, is_wanted=False
        )
        return DeleteExperimentLabelResponse(labels=labels)

    async def PutExperimentRetainLogs(
        self, request: PutExperimentRetainLogsRequest, call: Call
    ) -> PutExperimentRetainLogsResponse:
        """Say how long the logs of an experiment's trials are kept after their end."""
        await self._actions.retain_logs(request.experiment_id, request.num_days, call.principal)
        return PutExperimentRetainLogsResponse()

    async def PutTrialRetainLogs(
        self, request: PutTrialRetainLogsRequest, call: Call
    ) -> PutTrialRetainLogsResponse:
        """Say how long the log of a trial is kept after its end."""
        await self._actions.retain_trial_logs(request.trial_id, request.num_days, call.principal)
        return PutTrialRetainLogsResponse()

    async def GetTrialRemainingLogRetentionDays(
        self, request: GetTrialRemainingLogRetentionDaysRequest, call: Call
    ) -> GetTrialRemainingLogRetentionDaysResponse:
        """Tell for how many days the log of a trial is still kept."""
        async with self._database.reading() as session:
            trial = await get_trial_row(session, request.id)
            experiment = await get_experiment_row(session, trial.experiment_id)
        days = self._retention.log_retention_days
        for own in (experiment.log_retention_days, trial.log_retention_days):
            days = days if own is None else own
        if days == FOREVER:
            return GetTrialRemainingLogRetentionDaysResponse()
        if trial.ended_at is not None:
            past_s = (datetime.now(UTC) - trial.ended_at).total_seconds()
            days = max(0, math.ceil(days - past_s / _DAY_S))
        return GetTrialRemainingLogRetentionDaysResponse(remaining_days=days)
