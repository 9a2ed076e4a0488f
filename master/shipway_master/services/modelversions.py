"""Versions of models: checkpoints that are registered, and so are kept."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.checkpoints.collection import require_staying
from shipway_master.checkpoints.records import load_found, lock_trials, parse_uuid
from shipway_master.checkpoints.state import CheckpointState
from shipway_master.errors import FailedPrecondition
from shipway_master.pages import cut_page
from shipway_master.registry.rows import (
    get_model,
    get_version,
    require_owner,
    require_unarchived,
    touch,
)
from shipway_master.registry.views import view_model, view_versions
from shipway_master.rpc import Call
from shipway_master.services.models import read_labels
from shipway_master.store.checkpoints import CheckpointRow
from shipway_master.store.database import Database
from shipway_master.store.models import ModelVersionRow
from shipway_master.structs import to_plain
from shipway_proto.determined.api.v1 import model_pb2 as api
from shipway_proto.determined.api.v1.pagination_pb2 import ORDER_BY_DESC
from shipway_proto.determined.model.v1.model_pb2 import ModelVersion, PatchModelVersion


class ModelVersionService:
    """The RPCs of versions. Everyone registers and describes them; their owners, and those of the
    model, delete them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def GetModelVersion(
        self, request: api.GetModelVersionRequest, call: Call
    ) -> api.GetModelVersionResponse:
        """Find a version by its number."""
        version = await self._load(request.model_name, request.model_version_num, call)
        return api.GetModelVersionResponse(model_version=version)

    async def GetModelVersions(
        self, request: api.GetModelVersionsRequest, call: Call
    ) -> api.GetModelVersionsResponse:
        """List the versions of a model, those of no particular order by number."""
        async with self._database.reading() as session:
            model = await get_model(session, request.model_name)
            order = ModelVersionRow.number
            if request.sort_by == api.GetModelVersionsRequest.SORT_BY_CREATION_TIME:
                order = ModelVersionRow.id  # which grows with time
            is_reversed = request.order_by == ORDER_BY_DESC
            statement = (
                select(ModelVersionRow)
                .where(ModelVersionRow.model_id == model.id)
                .order_by(order.desc() if is_reversed else order)
            )
            rows = (await session.scalars(statement)).all()
            page, pagination = cut_page(rows, offset=request.offset, limit=request.limit)
            return api.GetModelVersionsResponse(
                model=await view_model(session, model),
                model_versions=await view_versions(session, model, page, call.principal),
                pagination=pagination,
            )

    async def PostModelVersion(
        self, request: api.PostModelVersionRequest, call: Call
    ) -> api.PostModelVersionResponse:
        """Register a checkpoint, which then stays as it is."""
        uuid = parse_uuid(request.checkpoint_uuid)
        now = datetime.now(UTC)
        async with self._database.writing() as session:
            model = await get_model(session, request.model_name, locks=True)
            checkpoint = await _get_whole_checkpoint(session, uuid)
            model.newest_version += 1
            touch(model)
            row = ModelVersionRow(
                model_id=model.id,
                number=model.newest_version,
                checkpoint_id=checkpoint.id,
                name=request.name,
                comment=request.comment,
                meta=to_plain(request.metadata),
                labels=list(request.labels),
                notes=request.notes,
                user_id=call.principal.user_id,
                created_at=now,
                updated_at=now,
            )
            session.add(row)
        version = await self._load(request.model_name, row.number, call)
        return api.PostModelVersionResponse(model_version=version)

    async def PatchModelVersion(
        self, request: api.PatchModelVersionRequest, call: Call
    ) -> api.PatchModelVersionResponse:
        """Change what a version says; it keeps its checkpoint."""
        async with self._database.writing() as session:
            model = await get_model(session, request.model_name)
            require_unarchived(model)
            row = await get_version(session, model, request.model_version_num)
            _apply(row, request.model_version)
            touch(row)
        version = await self._load(request.model_name, request.model_version_num, call)
        return api.PatchModelVersionResponse(model_version=version)

    async def DeleteModelVersion(
        self, request: api.DeleteModelVersionRequest, call: Call
    ) -> api.DeleteModelVersionResponse:
        """Delete a version; its number is not given again, its checkpoint may be removed."""
        async with self._database.writing() as session:
            model = await get_model(session, request.model_name)
            row = await get_version(session, model, request.model_version_num)
            require_owner(call.principal, row.user_id, model.user_id)
            await session.delete(row)
        return api.DeleteModelVersionResponse()

    async def _load(self, model_name: str, number: int, call: Call) -> ModelVersion:
        async with self._database.reading() as session:
            model = await get_model(session, model_name)
            row = await get_version(session, model, number)
            return (await view_versions(session, model, [row], call.principal))[0]


async def _get_whole_checkpoint(session: AsyncSession, uuid: str) -> CheckpointRow:
    await lock_trials(session, [uuid])
    found = (await load_found(session, [uuid]))[0]
    await require_staying(session, found)
    if found.row.state != CheckpointState.COMPLETED.value:
        raise FailedPrecondition(
            f"checkpoint {uuid} is in state {found.row.state}; "
            "only one in state COMPLETED can be registered"
        )
    return found.row


def _apply(row: ModelVersionRow, patch: PatchModelVersion) -> None:
    if patch.HasField("name"):
        row.name = patch.name.value
    if patch.HasField("comment"):
        row.comment = patch.comment.value
    if patch.HasField("metadata"):
        row.meta = to_plain(patch.metadata)
    if patch.HasField("labels"):
        row.labels = read_labels(patch.labels)
    if patch.HasField("notes"):
        row.notes = patch.notes.value
