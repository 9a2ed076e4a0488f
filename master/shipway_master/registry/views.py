"""Models and their versions as the API writes them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.auth import Principal
from shipway_master.checkpoints.records import load_found
from shipway_master.checkpoints.views import view_checkpoints
from shipway_master.queries.views import stamp
from shipway_master.store.checkpoints import CheckpointRow
from shipway_master.store.models import ModelRow, ModelVersionRow
from shipway_master.store.users import UserRow
from shipway_master.structs import to_struct
from shipway_proto.determined.model.v1.model_pb2 import Model, ModelVersion


async def view_models(session: AsyncSession, rows: Sequence[ModelRow]) -> list[Model]:
    """Write models in the order of *rows*."""
    names = await _load_names(session, {row.user_id for row in rows})
    statement = select(ModelVersionRow.model_id, func.count()).group_by(ModelVersionRow.model_id)
    if len(rows) == 1:
        statement = statement.where(ModelVersionRow.model_id == rows[0].id)
    counts = {model_id: count for model_id, count in await session.execute(statement)}  # noqa: C416
    return [_view_model(row, names[row.user_id], counts.get(row.id, 0)) for row in rows]


async def view_model(session: AsyncSession, row: ModelRow) -> Model:
    """Write one model."""
    return (await view_models(session, [row]))[0]


async def view_versions(
    session: AsyncSession, model: ModelRow, rows: Sequence[ModelVersionRow], reader: Principal
) -> list[ModelVersion]:
    """Write versions of a model in the order of *rows*."""
    names = await _load_names(session, {row.user_id for row in rows})
    shown_model = await view_model(session, model)
    ids = {row.checkpoint_id for row in rows}
    uuids = select(CheckpointRow.uuid).where(CheckpointRow.id.in_(ids))
    found = await load_found(session, (await session.scalars(uuids)).all())
    checkpoints = dict(
        zip(
            [one.row.id for one in found],
            await view_checkpoints(session, found, reader),
            strict=True,
        )
    )
    return [
        ModelVersion(
            model=shown_model,
            checkpoint=checkpoints[row.checkpoint_id],
            version=row.number,
            creation_time=stamp(row.created_at),
            id=row.id,
            name=row.name,
            metadata=to_struct(row.meta),
            last_updated_time=stamp(row.updated_at),
            comment=row.comment,
            username=names[row.user_id],
            user_id=row.user_id,
            labels=row.labels,
            notes=row.notes,
        )
        for row in rows
    ]


def _view_model(row: ModelRow, username: str, version_count: int) -> Model:
    return Model(
        name=row.name,
        description=row.description,
        metadata=to_struct(row.meta),
        creation_time=stamp(row.created_at),
        last_updated_time=stamp(row.updated_at),
        id=row.id,
        num_versions=version_count,
        labels=row.labels,
        username=username,
        workspace_id=row.workspace_id,
        user_id=row.user_id,
        archived=row.archived,
        notes=row.notes,
    )


async def _load_names(session: AsyncSession, ids: Collection[int]) -> dict[int, str]:
    statement = select(UserRow.id, UserRow.username).where(UserRow.id.in_(ids))
    return {user_id: name for user_id, name in await session.execute(statement)}  # noqa: C416
