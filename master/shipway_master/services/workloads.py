"""What a trial did, step by step."""

from __future__ import annotations

from collections.abc import Sequence

from shipway_master.queries.bests import view_checkpoint_step
from shipway_master.rpc import Call
from shipway_master.store.checkpoints import CheckpointRow
from shipway_master.store.database import Database
from shipway_master.trialmetrics.facts import KnownTrials
from shipway_master.trialmetrics.groups import VALIDATION, groups_of_request
from shipway_master.trialmetrics.reading import StoredReport
from shipway_master.trialmetrics.views import view_workload
from shipway_master.trialmetrics.workloads import Wanted, load_workloads
from shipway_proto.determined.api.v1.pagination_pb2 import ORDER_BY_DESC
from shipway_proto.determined.api.v1.trial_pb2 import (
    GetTrialWorkloadsRequest,
    GetTrialWorkloadsResponse,
    WorkloadContainer,
)


class WorkloadService:
    """The RPC that lists the steps of a trial."""

    def __init__(self, database: Database, trials: KnownTrials) -> None:
        self._database, self._trials = database, trials

    async def GetTrialWorkloads(
        self, request: GetTrialWorkloadsRequest, call: Call
    ) -> GetTrialWorkloadsResponse:
        """List reports and checkpoints; a group of the user's own looks like training."""
        await self._trials.get(request.trial_id)
        wanted = Wanted(
            trial_id=request.trial_id,
            groups=_choose_groups(request),
            with_checkpoints=request.filter != request.FILTER_OPTION_VALIDATION,
            with_deleted=not request.remove_deleted_checkpoints,
            sort_key=request.sort_key,
            descending=request.order_by == ORDER_BY_DESC,
            offset=request.offset,
            limit=request.limit,
            with_batches=request.include_batch_metrics,
        )
        page, pagination = await load_workloads(self._database, wanted)
        return GetTrialWorkloadsResponse(workloads=map(_view, page), pagination=pagination)


def _choose_groups(request: GetTrialWorkloadsRequest) -> Sequence[str] | None:
    groups = groups_of_request(request)
    match request.filter:
        case request.FILTER_OPTION_CHECKPOINT:
            return ()
        case request.FILTER_OPTION_VALIDATION | request.FILTER_OPTION_CHECKPOINT_OR_VALIDATION:
            return [VALIDATION] if not groups or VALIDATION in groups else []
        case _:
            return sorted(groups) or None


def _view(step: StoredReport | CheckpointRow) -> WorkloadContainer:
    if isinstance(step, CheckpointRow):
        return WorkloadContainer(checkpoint=view_checkpoint_step(step))
    if step.group == VALIDATION:
        return WorkloadContainer(validation=view_workload(step))
    return WorkloadContainer(training=view_workload(step))
