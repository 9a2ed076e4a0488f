"""Models of the registry: made, found, changed, put away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.struct_pb2 import ListValue
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.errors import FailedPrecondition, InvalidArgument, NotFound
from shipway_master.pages import cut_page
from shipway_master.registry.rows import (
    check_name,
    get_model,
    require_free_name,
    require_owner,
    require_unarchived,
    touch,
)
from shipway_master.registry.views import view_model, view_models
from shipway_master.rpc import Call
from shipway_master.store.again import write_looking
from shipway_master.store.database import Database
from shipway_master.store.models import ModelRow
from shipway_master.store.workspaces import WorkspaceRow
from shipway_master.structs import list_to_plain, to_plain
from shipway_master.workspaces.names import fold_name
from shipway_proto.determined.api.v1 import model_pb2 as api
from shipway_proto.determined.api.v1.pagination_pb2 import ORDER_BY_DESC
from shipway_proto.determined.model.v1.model_pb2 import Model, PatchModel

_DEFAULT_WORKSPACE = 1
_By = api.GetModelsRequest

_KEYS: Final[dict[int, Callable[[Model], Any]]] = {
    _By.SORT_BY_NAME: lambda model: model.name,
    _By.SORT_BY_DESCRIPTION: lambda model: model.description,
    _By.SORT_BY_CREATION_TIME: lambda model: model.creation_time.ToNanoseconds(),
    _By.SORT_BY_LAST_UPDATED_TIME: lambda model: model.last_updated_time.ToNanoseconds(),
    _By.SORT_BY_NUM_VERSIONS: lambda model: model.num_versions,
    _By.SORT_BY_WORKSPACE: lambda model: model.workspace_id,
}


class ModelService:
    """The RPCs of models. Everyone may change all of them; only their owners delete them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def GetModel(self, request: api.GetModelRequest, call: Call) -> api.GetModelResponse:
        """Find a model by its name or id."""
        return api.GetModelResponse(model=await self._load(request.model_name))

    async def GetModels(self, request: api.GetModelsRequest, call: Call) -> api.GetModelsResponse:
        """List the models that fit, those of no particular order by id."""
        statement = select(ModelRow).order_by(ModelRow.id)
        if request.id:
            statement = statement.where(ModelRow.id == request.id)
        if request.HasField("archived"):
            statement = statement.where(ModelRow.archived == request.archived.value)
        if request.user_ids:
            statement = statement.where(ModelRow.user_id.in_(request.user_ids))
        async with self._database.reading() as session:
            if request.workspace_ids or request.workspace_names:
                ids = await _find_workspaces(session, request)
                statement = statement.where(ModelRow.workspace_id.in_(ids))
            rows = (await session.scalars(statement)).all()
            models = await view_models(session, rows)
        models = [model for model in models if _fits(model, request)]
        if request.sort_by in _KEYS:
            models.sort(key=_KEYS[request.sort_by])
        if request.order_by == ORDER_BY_DESC:
            models.reverse()
        page, pagination = cut_page(models, offset=request.offset, limit=request.limit)
        return api.GetModelsResponse(models=page, pagination=pagination)

    async def GetModelLabels(
        self, request: api.GetModelLabelsRequest, call: Call
    ) -> api.GetModelLabelsResponse:
        """List the labels that models have, the most used first."""
        statement = select(ModelRow.labels)
        if request.HasField("workspace_id"):
            statement = statement.where(ModelRow.workspace_id == request.workspace_id)
        async with self._database.reading() as session:
            counts = Counter(
                label for labels in await session.scalars(statement) for label in set(labels)
            )
        ordered = sorted(counts, key=lambda label: (-counts[label], label))
        return api.GetModelLabelsResponse(labels=ordered)

    async def PostModel(self, request: api.PostModelRequest, call: Call) -> api.PostModelResponse:
        """Make a model, owned by the caller."""
        check_name(request.name)

        async def add(session: AsyncSession) -> None:
            workspace_id = await _choose_workspace(session, request) or _DEFAULT_WORKSPACE
            await _require_open(session, workspace_id)
            await require_free_name(session, request.name)
            now = datetime.now(UTC)
            row = ModelRow(
                name=request.name,
                description=request.description,
                meta=to_plain(request.metadata),
                labels=list(request.labels),
                notes=request.notes,
                workspace_id=workspace_id,
                user_id=call.principal.user_id,
                created_at=now,
                updated_at=now,
            )
            session.add(row)

        await write_looking(self._database, add)
        return api.PostModelResponse(model=await self._load(request.name))

    async def PatchModel(
        self, request: api.PatchModelRequest, call: Call
    ) -> api.PatchModelResponse:
        """Change what a model says, or the workspace it is in."""

        async def change(session: AsyncSession) -> int:
            row = await get_model(session, request.model_name, locks=True)
            require_unarchived(row)
            await _apply(session, row, request.model)
            touch(row)
            return row.id

        model_id = await write_looking(self._database, change)
        return api.PatchModelResponse(model=await self._load(str(model_id)))

    async def ArchiveModel(
        self, request: api.ArchiveModelRequest, call: Call
    ) -> api.ArchiveModelResponse:
        """Put a model away: what it says stays as it is."""
        await self._set_archived(request.model_name, archived=True)
        return api.ArchiveModelResponse()

    async def UnarchiveModel(
        self, request: api.UnarchiveModelRequest, call: Call
    ) -> api.UnarchiveModelResponse:
        """Get a model back."""
        await self._set_archived(request.model_name, archived=False)
        return api.UnarchiveModelResponse()

    async def MoveModel(self, request: api.MoveModelRequest, call: Call) -> api.MoveModelResponse:
        """Put a model into another workspace."""
        async with self._database.writing() as session:
            row = await get_model(session, request.model_name, locks=True)
            require_unarchived(row)
            await _move(session, row, request.destination_workspace_id)
            touch(row)
        return api.MoveModelResponse()

    async def DeleteModel(
        self, request: api.DeleteModelRequest, call: Call
    ) -> api.DeleteModelResponse:
        """Delete a model with its versions; their checkpoints may be removed again."""
        async with self._database.writing() as session:
            row = await get_model(session, request.model_name, locks=True)
            require_owner(call.principal, row.user_id)
            await session.delete(row)
        return api.DeleteModelResponse()

    async def _load(self, name: str) -> Model:
        async with self._database.reading() as session:
            return await view_model(session, await get_model(session, name))

    async def _set_archived(self, name: str, *, archived: bool) -> None:
        async with self._database.writing() as session:
            row = await get_model(session, name, locks=True)
            row.archived = archived


def read_labels(labels: ListValue) -> list[str]:
    """Read labels that came as free-form values.

    Raises:
        InvalidArgument: One is no text.
    """
    plain = list_to_plain(labels)
    for label in plain:
        if not isinstance(label, str):
            raise InvalidArgument(f"labels: {label!r} is no text")
    return plain


def _fits(model: Model, request: api.GetModelsRequest) -> bool:
    return (
        request.name.casefold() in model.name.casefold()
        and request.description.casefold() in model.description.casefold()
        and set(request.labels) <= set(model.labels)
        and (not request.users or model.username in request.users)
    )


async def _apply(session: AsyncSession, row: ModelRow, patch: PatchModel) -> None:
    if patch.HasField("name") and patch.name.value != row.name:
        check_name(patch.name.value)
        await require_free_name(session, patch.name.value)
        row.name = patch.name.value
    if patch.HasField("description"):
        row.description = patch.description.value
    if patch.HasField("metadata"):
        row.meta = to_plain(patch.metadata)
    if patch.HasField("labels"):
        row.labels = read_labels(patch.labels)
    if patch.HasField("notes"):
        row.notes = patch.notes.value
    workspace_id = await _choose_workspace(session, patch)
    if workspace_id is not None:
        await _move(session, row, workspace_id)


async def _move(session: AsyncSession, row: ModelRow, workspace_id: int) -> None:
    if workspace_id != row.workspace_id:
        await _require_open(session, workspace_id)
        row.workspace_id = workspace_id


async def _choose_workspace(
    session: AsyncSession, request: api.PostModelRequest | PatchModel
) -> int | None:
    """Find the workspace that a request names, by its name or id; None: it names none."""
    if request.HasField("workspace_name") and request.workspace_name:
        name = request.workspace_name
        statement = select(WorkspaceRow.id).where(WorkspaceRow.folded_name == fold_name(name))
        workspace_id = await session.scalar(statement)
        if workspace_id is None:
            raise NotFound("workspace", name)
        return workspace_id
    return request.workspace_id if request.HasField("workspace_id") else None


async def _require_open(session: AsyncSession, workspace_id: int) -> None:
    row = await session.get(WorkspaceRow, workspace_id)
    if row is None:
        raise NotFound("workspace", workspace_id)
    if row.archived or row.deletion:
        state = "being deleted" if row.deletion else "archived"
        raise FailedPrecondition(f"workspace '{row.name}' is {state} and takes no models")


async def _find_workspaces(session: AsyncSession, request: api.GetModelsRequest) -> set[int]:
    names = [fold_name(name) for name in request.workspace_names]
    statement = select(WorkspaceRow.id).where(WorkspaceRow.folded_name.in_(names))
    return {*request.workspace_ids, *(await session.scalars(statement))}
