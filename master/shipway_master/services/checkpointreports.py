"""What tasks tell of checkpoints: where they are, that one is complete, which files are left."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.checkpoints.access import require_own, require_writer
from shipway_master.checkpoints.records import CheckpointRecords, Report, parse_uuid
from shipway_master.checkpoints.storages import keep_storage, read_storage
from shipway_master.errors import InvalidArgument, NotFound
from shipway_master.rpc import Call
from shipway_master.store.again import write_looking
from shipway_master.store.database import Database
from shipway_master.store.experiments import TrialRow, TrialTaskRow
from shipway_master.structs import to_plain
from shipway_master.times import to_datetime
from shipway_proto.determined.api.v1.checkpoint_pb2 import (
    PatchCheckpointsRequest,
    PatchCheckpointsResponse,
)
from shipway_proto.determined.api.v1.run_pb2 import (
    RunPrepareForReportingRequest,
    RunPrepareForReportingResponse,
)
from shipway_proto.determined.api.v1.task_pb2 import (
    ReportCheckpointRequest,
    ReportCheckpointResponse,
)
from shipway_proto.determined.checkpoint.v1.checkpoint_pb2 import (
    STATE_COMPLETED,
    STATE_UNSPECIFIED,
    Checkpoint,
)

_MOST = 2**63 - 1
"""What a column for whole numbers holds."""


class CheckpointReportService:
    """The RPCs by which checkpoints become known and are known to be gone."""

    def __init__(self, database: Database, records: CheckpointRecords) -> None:
        self._database, self._records = database, records

    async def RunPrepareForReporting(
        self, request: RunPrepareForReportingRequest, call: Call
    ) -> RunPrepareForReportingResponse:
        """Hear where a trial keeps its checkpoints."""
        storage = None
        if request.HasField("checkpoint_storage"):
            storage = read_storage(to_plain(request.checkpoint_storage))

        async def keep(session: AsyncSession) -> int | None:
            trial = await session.get(TrialRow, request.run_id)
            if trial is None:
                raise NotFound("run", request.run_id)
            owner_id = await require_writer(session, trial, call.principal)
            return None if storage is None else await keep_storage(session, storage, owner_id)

        # All ranks of a trial say the same at the same time.
        storage_id = await write_looking(self._database, keep)
        return RunPrepareForReportingResponse(storage_id=storage_id)

    async def ReportCheckpoint(
        self, request: ReportCheckpointRequest, call: Call
    ) -> ReportCheckpointResponse:
        """Hear of a checkpoint. The same one may be told of again."""
        told = request.checkpoint
        meta = to_plain(told.metadata)
        steps = _read_steps(meta)
        _check(told)
        async with self._database.reading() as session:
            task = await session.get(TrialTaskRow, told.task_id)
            if task is None:
                raise InvalidArgument(f"task_id {told.task_id!r} is no task of a trial")
            trial = await session.get_one(TrialRow, task.trial_id)
            await require_writer(session, trial, call.principal)
        has_time = told.HasField("report_time")
        await self._records.report(
            Report(
                uuid=parse_uuid(told.uuid),
                task_id=told.task_id,
                allocation_id=told.allocation_id or None,
                trial_id=trial.id,
                reported_at=to_datetime(told.report_time) if has_time else datetime.now(UTC),
                resources=dict(told.resources),
                meta=meta,
                steps_completed=steps,
                storage_id=told.storage_id if told.HasField("storage_id") else None,
            )
        )
        return ReportCheckpointResponse()

    async def PatchCheckpoints(
        self, request: PatchCheckpointsRequest, call: Call
    ) -> PatchCheckpointsResponse:
        """Hear which files of checkpoints are left."""
        uuids = [one.uuid for one in request.checkpoints]
        await require_own(self._database, uuids, call.principal)
        left: dict[str, Mapping[str, int]] = {}
        for one in request.checkpoints:
            if one.HasField("resources"):
                _check_sizes(one.resources.resources)
                left[parse_uuid(one.uuid)] = dict(one.resources.resources)
        await self._records.set_left(left)
        return PatchCheckpointsResponse()


def _check(told: Checkpoint) -> None:
    if told.state not in (STATE_UNSPECIFIED, STATE_COMPLETED):
        raise InvalidArgument("only a checkpoint in STATE_COMPLETED can be reported")
    _check_sizes(told.resources)


def _check_sizes(resources: Mapping[str, int]) -> None:
    for path, size in resources.items():
        if size < 0:
            raise InvalidArgument(f"resources: {path[:80]!r} has a negative size")
    if sum(resources.values()) > _MOST:
        raise InvalidArgument("resources: the sizes are too large")


def _read_steps(meta: Mapping[str, Any]) -> int:
    steps = meta.get("steps_completed")
    if isinstance(steps, bool) or not isinstance(steps, int) or not 0 <= steps <= _MOST:
        raise InvalidArgument("metadata.steps_completed must be a whole number, 0 or more")
    return steps
