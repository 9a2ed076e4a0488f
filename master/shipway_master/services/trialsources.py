"""Which checkpoints trials use, and what the users of one measured."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.checkpoints.records import parse_uuid
from shipway_master.errors import InvalidArgument, NotFound
from shipway_master.registry.rows import get_model, get_version
from shipway_master.rpc import Call
from shipway_master.store.checkpoints import CheckpointRow
from shipway_master.store.database import Database
from shipway_master.store.trialmetrics import TrialSourceRow
from shipway_master.trialmetrics.facts import KnownTrials
from shipway_master.trialmetrics.reading import StoredMetrics
from shipway_master.trialmetrics.views import view_report
from shipway_proto.determined.api.v1 import checkpoint_pb2, model_pb2
from shipway_proto.determined.api.v1.trial_pb2 import (
    ReportTrialSourceInfoRequest,
    ReportTrialSourceInfoResponse,
)
from shipway_proto.determined.trial.v1.trial_pb2 import (
    TRIAL_SOURCE_INFO_TYPE_UNSPECIFIED,
    MetricsReport,
    TrialSourceInfoType,
)

_PREFIX = "TRIAL_SOURCE_INFO_TYPE_"
_Row = TrialSourceRow


class TrialSourceService:
    """The RPCs about the use of checkpoints by trials."""

    def __init__(self, database: Database, trials: KnownTrials, metrics: StoredMetrics) -> None:
        self._database, self._trials, self._metrics = database, trials, metrics

    async def ReportTrialSourceInfo(
        self, request: ReportTrialSourceInfoRequest, call: Call
    ) -> ReportTrialSourceInfoResponse:
        """Note that a trial uses a checkpoint; said again it replaces what was said before."""
        told = request.trial_source_info
        await self._trials.get_for_report(told.trial_id, call.principal)
        kind = _read_kind(told.trial_source_info_type)
        if not kind:
            raise InvalidArgument("trial_source_info_type is missing")
        if told.HasField("model_id") != told.HasField("model_version"):
            raise InvalidArgument("give both of model_id and model_version, or none")
        row = TrialSourceRow(
            trial_id=told.trial_id,
            checkpoint_uuid=parse_uuid(told.checkpoint_uuid),
            kind=kind,
            model_id=told.model_id if told.HasField("model_id") else None,
            model_version=told.model_version if told.HasField("model_version") else None,
        )
        async with self._database.writing() as session:
            await _require_source(session, row)
            await session.merge(row)
        return ReportTrialSourceInfoResponse(
            trial_id=row.trial_id, checkpoint_uuid=row.checkpoint_uuid
        )

    async def GetTrialMetricsByCheckpoint(
        self, request: checkpoint_pb2.GetTrialMetricsByCheckpointRequest, call: Call
    ) -> checkpoint_pb2.GetTrialMetricsByCheckpointResponse:
        """Read the metrics of all trials that use a checkpoint."""
        uuid = parse_uuid(request.checkpoint_uuid)
        async with self._database.reading() as session:
            await _require_checkpoint(session, uuid)
        reports = await self._load(
            [_Row.checkpoint_uuid == uuid], request.trial_source_info_type, request.metric_group
        )
        return checkpoint_pb2.GetTrialMetricsByCheckpointResponse(metrics=reports)

    async def GetTrialMetricsByModelVersion(
        self, request: model_pb2.GetTrialMetricsByModelVersionRequest, call: Call
    ) -> model_pb2.GetTrialMetricsByModelVersionResponse:
        """Read the metrics of all trials that use a version of a model."""
        async with self._database.reading() as session:
            model = await get_model(session, request.model_name)
            version = await get_version(session, model, request.model_version_num)
        conditions = [_Row.model_id == model.id, _Row.model_version == version.number]
        reports = await self._load(conditions, request.trial_source_info_type, request.metric_group)
        return model_pb2.GetTrialMetricsByModelVersionResponse(metrics=reports)

    async def _load(
        self,
        conditions: Sequence[ColumnElement[bool]],
        wanted: TrialSourceInfoType.ValueType,
        group: str,
    ) -> list[MetricsReport]:
        statement = select(_Row.trial_id).where(*conditions)
        if kind := _read_kind(wanted):
            statement = statement.where(_Row.kind == kind)
        async with self._database.reading() as session:
            trial_ids = (await session.scalars(statement.order_by(_Row.trial_id).distinct())).all()
        async with aclosing(self._read(trial_ids, group)) as reports:
            return [report async for report in reports]

    async def _read(self, trial_ids: Sequence[int], group: str) -> AsyncGenerator[MetricsReport]:
        for trial_id in trial_ids:
            pages = self._metrics.read(trial_id, groups={group} if group else (), with_batches=True)
            async with aclosing(pages):
                async for page in pages:
                    for report in page:
                        yield view_report(report)


def _read_kind(kind: TrialSourceInfoType.ValueType) -> str:
    """Name *kind* as it is stored; empty: it is none in particular."""
    if kind == TRIAL_SOURCE_INFO_TYPE_UNSPECIFIED:
        return ""
    try:
        return TrialSourceInfoType.Name(kind).removeprefix(_PREFIX)
    except ValueError as error:
        raise InvalidArgument(f"trial_source_info_type {kind} is unknown") from error


async def _require_source(session: AsyncSession, row: TrialSourceRow) -> None:
    await _require_checkpoint(session, row.checkpoint_uuid)
    if row.model_id is not None and row.model_version is not None:
        model = await get_model(session, str(row.model_id))
        await get_version(session, model, row.model_version)


async def _require_checkpoint(session: AsyncSession, uuid: str) -> None:
    found = select(CheckpointRow.id).where(CheckpointRow.uuid == uuid)
    if await session.scalar(found) is None:
        raise NotFound("checkpoint", uuid)
