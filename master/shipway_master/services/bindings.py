"""Which workspaces may use which resource pools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.cluster.cluster import Cluster
from shipway_master.errors import AlreadyExists, InvalidArgument, NotFound
from shipway_master.pages import cut_stored_page
from shipway_master.rpc import Call
from shipway_master.store.again import write_looking
from shipway_master.store.database import Database
from shipway_master.store.workspaces import PoolBindingRow, WorkspaceRow
from shipway_master.tasks.workspaces import list_barred_pools
from shipway_master.workspaces.rights import get_workspace
from shipway_proto.determined.api.v1 import resourcepool_pb2 as api
from shipway_proto.determined.api.v1.workspace_pb2 import (
    ListRPsBoundToWorkspaceRequest,
    ListRPsBoundToWorkspaceResponse,
)


class _Change(Protocol):
    @property
    def workspace_ids(self) -> Sequence[int]: ...

    @property
    def workspace_names(self) -> Sequence[str]: ...


class BindingService:
    """The RPCs of bindings; what runs already is left alone by all of them."""

    def __init__(self, database: Database, cluster: Cluster) -> None:
        self._database, self._cluster = database, cluster

    async def BindRPToWorkspace(
        self, request: api.BindRPToWorkspaceRequest, call: Call
    ) -> api.BindRPToWorkspaceResponse:
        """Let workspaces use a pool; the first binding shuts out all others.

        One that is there already refuses the whole, as the clients say of it.
        """
        call.principal.require_admin()
        pool = request.resource_pool_name
        self._require_bindable(pool)

        async def bind(session: AsyncSession) -> None:
            for workspace_id in await _find_ids(session, request):
                if await session.get(PoolBindingRow, (pool, workspace_id)) is not None:
                    raise AlreadyExists(
                        f"resource pool {pool} is bound to workspace {workspace_id} already"
                    )
                session.add(PoolBindingRow(pool=pool, workspace_id=workspace_id))

        await write_looking(self._database, bind)
        return api.BindRPToWorkspaceResponse()

    async def UnbindRPFromWorkspace(
        self, request: api.UnbindRPFromWorkspaceRequest, call: Call
    ) -> api.UnbindRPFromWorkspaceResponse:
        """Take a pool away from workspaces; the last one taken away opens it for all."""
        call.principal.require_admin()
        async with self._database.writing() as session:
            ids = await _find_ids(session, request)
            await session.execute(
                delete(PoolBindingRow).where(
                    PoolBindingRow.pool == request.resource_pool_name,
                    PoolBindingRow.workspace_id.in_(ids),
                )
            )
        return api.UnbindRPFromWorkspaceResponse()

    async def OverwriteRPWorkspaceBindings(
        self, request: api.OverwriteRPWorkspaceBindingsRequest, call: Call
    ) -> api.OverwriteRPWorkspaceBindingsResponse:
        """Replace the list of workspaces that may use a pool; an empty one opens it for all."""
        call.principal.require_admin()
        pool = request.resource_pool_name
        self._require_bindable(pool)

        async def replace(session: AsyncSession) -> None:
            ids = await _find_ids(session, request)
            await session.execute(delete(PoolBindingRow).where(PoolBindingRow.pool == pool))
            session.add_all(PoolBindingRow(pool=pool, workspace_id=one) for one in ids)

        await write_looking(self._database, replace)
        return api.OverwriteRPWorkspaceBindingsResponse()

    async def ListWorkspacesBoundToRP(
        self, request: api.ListWorkspacesBoundToRPRequest, call: Call
    ) -> api.ListWorkspacesBoundToRPResponse:
        """List the workspaces that a pool is bound to."""
        statement = (
            select(PoolBindingRow.workspace_id)
            .where(PoolBindingRow.pool == request.resource_pool_name)
            .order_by(PoolBindingRow.workspace_id)
        )
        async with self._database.reading() as session:
            ids = list(await session.scalars(statement))
        page, pagination = cut_stored_page(ids, offset=request.offset, limit=request.limit)
        return api.ListWorkspacesBoundToRPResponse(workspace_ids=page, pagination=pagination)

    async def ListRPsBoundToWorkspace(
        self, request: ListRPsBoundToWorkspaceRequest, call: Call
    ) -> ListRPsBoundToWorkspaceResponse:
        """List the pools that a workspace may use: those bound to it, and those bound to none."""
        async with self._database.reading() as session:
            await get_workspace(session, request.workspace_id)
            barred = await list_barred_pools(session, request.workspace_id)
        names = [pool.name for pool in self._cluster.list_pools() if pool.name not in barred]
        page, pagination = cut_stored_page(names, offset=request.offset, limit=request.limit)
        return ListRPsBoundToWorkspaceResponse(resource_pools=page, pagination=pagination)

    def _require_bindable(self, name: str) -> None:
        for pool in self._cluster.list_pools():
            if pool.name == name:
                if pool.default_compute_pool or pool.default_aux_pool:
                    raise InvalidArgument(
                        f"default resource pool {name} cannot be bound to any workspace"
                    )
                return
        raise NotFound("resource pool", name)


async def _find_ids(session: AsyncSession, change: _Change) -> list[int]:
    rows = (await session.scalars(select(WorkspaceRow))).all()
    ids, names = {row.id for row in rows}, {row.name: row.id for row in rows}
    for wanted_id in change.workspace_ids:
        if wanted_id not in ids:
            raise NotFound("workspace", wanted_id)
    for name in change.workspace_names:
        if name not in names:
            raise NotFound("workspace", name)
    return sorted({*change.workspace_ids, *(names[name] for name in change.workspace_names)})
