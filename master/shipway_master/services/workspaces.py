"""Workspaces."""

from __future__ import annotations

from collections.abc import Set
from datetime import UTC, datetime

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.cluster.cluster import Cluster
from shipway_master.cluster.manager import PoolNotFound
from shipway_master.errors import AlreadyExists, InvalidArgument
from shipway_master.pages import cut_page
from shipway_master.rpc import Call
from shipway_master.services.namespaces import no_kubernetes
from shipway_master.store.again import write_looking
from shipway_master.store.database import Database
from shipway_master.store.tasks import TaskRow
from shipway_master.store.workspaces import WorkspacePinRow, WorkspaceRow
from shipway_master.structs import to_plain
from shipway_master.tasks.workspaces import list_barred_pools
from shipway_master.workspaces.names import check_name, fold_name
from shipway_master.workspaces.removal import Removal
from shipway_master.workspaces.rights import get_own_workspace, get_workspace, require_unarchived
from shipway_master.workspaces.storage import dump_storage
from shipway_master.workspaces.views import load_workspace, load_workspaces
from shipway_proto.determined.api.v1 import workspace_pb2 as api
from shipway_proto.determined.api.v1.pagination_pb2 import ORDER_BY_DESC
from shipway_proto.determined.user.v1.user_pb2 import AgentUserGroup
from shipway_proto.determined.workspace.v1.workspace_pb2 import PatchWorkspace, Workspace


class WorkspaceService:
    """The RPCs of workspaces. Everyone sees all of them, and their owners change them."""

    def __init__(self, database: Database, cluster: Cluster, removal: Removal) -> None:
        self._database, self._cluster, self._removal = database, cluster, removal

    async def GetWorkspace(
        self, request: api.GetWorkspaceRequest, call: Call
    ) -> api.GetWorkspaceResponse:
        """Find a workspace by id."""
        async with self._database.reading() as session:
            workspace = await load_workspace(session, call.principal.user_id, request.id)
        return api.GetWorkspaceResponse(workspace=workspace)

    async def GetWorkspaces(
        self, request: api.GetWorkspacesRequest, call: Call
    ) -> api.GetWorkspacesResponse:
        """List workspaces; a name must match as a whole."""
        async with self._database.reading() as session:
            workspaces = await load_workspaces(session, call.principal.user_id)
        found = [workspace for workspace in workspaces if _is_wanted(workspace, request)]
        if request.sort_by == api.GetWorkspacesRequest.SORT_BY_NAME:
            found.sort(key=lambda workspace: workspace.name)
        if request.order_by == ORDER_BY_DESC:
            found.reverse()
        page, pagination = cut_page(found, offset=request.offset, limit=request.limit)
        return api.GetWorkspacesResponse(workspaces=page, pagination=pagination)

    async def PostWorkspace(
        self, request: api.PostWorkspaceRequest, call: Call
    ) -> api.PostWorkspaceResponse:
        """Make a workspace, owned by and pinned for the caller."""
        check_name("workspace", request.name)
        if request.cluster_namespace_meta or request.cluster_quota_pairs:
            raise no_kubernetes()
        row = WorkspaceRow(
            name=request.name,
            folded_name=fold_name(request.name),
            user_id=call.principal.user_id,
            default_compute_pool=request.default_compute_pool,
            default_aux_pool=request.default_aux_pool,
        )
        if request.HasField("agent_user_group"):
            call.principal.require_admin()
            _set_agent_user(row, request.agent_user_group)
        if request.HasField("checkpoint_storage_config"):
            storage = to_plain(request.checkpoint_storage_config)
            row.checkpoint_storage = dump_storage(storage, before=None)
        try:
            async with self._database.writing() as session:
                await self._check_pools(session, _list_pools(row), workspace_id=None)
                if (unused_id := await _find_unused_id(session)) is not None:
                    row.id = unused_id
                session.add(row)
                await session.flush()
                session.add(_pin(row.id, call.principal.user_id))
        except IntegrityError as error:
            raise _name_is_taken(request.name) from error
        return api.PostWorkspaceResponse(workspace=await self._load(row.id, call))

    async def PatchWorkspace(
        self, request: api.PatchWorkspaceRequest, call: Call
    ) -> api.PatchWorkspaceResponse:
        """Change a workspace; only administrators set the Unix user of its tasks."""
        changes = request.workspace
        if changes.cluster_namespace_meta:
            raise no_kubernetes()
        try:
            async with self._database.writing() as session:
                row = await get_own_workspace(session, request.id, call.principal)
                require_unarchived("workspace", row)
                if changes.HasField("agent_user_group"):
                    call.principal.require_admin()
                before = _list_pools(row)
                _apply(row, changes)
                await self._check_pools(session, _list_pools(row) - before, workspace_id=row.id)
        except IntegrityError as error:
            raise _name_is_taken(changes.name.value) from error
        return api.PatchWorkspaceResponse(workspace=await self._load(request.id, call))

    async def DeleteWorkspace(
        self, request: api.DeleteWorkspaceRequest, call: Call
    ) -> api.DeleteWorkspaceResponse:
        """Delete a workspace with its projects and templates, and end the tasks in it."""
        completed = await self._removal.remove_workspace(request.id, call.principal)
        return api.DeleteWorkspaceResponse(completed=completed)

    async def ArchiveWorkspace(
        self, request: api.ArchiveWorkspaceRequest, call: Call
    ) -> api.ArchiveWorkspaceResponse:
        """Hide a workspace and keep new work out of it; what runs in it goes on."""
        await self._set_archived(request.id, call, is_archived=True)
        return api.ArchiveWorkspaceResponse()

    async def UnarchiveWorkspace(
        self, request: api.UnarchiveWorkspaceRequest, call: Call
    ) -> api.UnarchiveWorkspaceResponse:
        """Show an archived workspace again."""
        await self._set_archived(request.id, call, is_archived=False)
        return api.UnarchiveWorkspaceResponse()

    async def PinWorkspace(
        self, request: api.PinWorkspaceRequest, call: Call
    ) -> api.PinWorkspaceResponse:
        """Keep a workspace at hand for the caller."""

        async def pin(session: AsyncSession) -> None:
            await get_workspace(session, request.id)
            key = (call.principal.user_id, request.id)
            if await session.get(WorkspacePinRow, key) is None:
                session.add(_pin(request.id, call.principal.user_id))

        await write_looking(self._database, pin)
        return api.PinWorkspaceResponse()

    async def UnpinWorkspace(
        self, request: api.UnpinWorkspaceRequest, call: Call
    ) -> api.UnpinWorkspaceResponse:
        """Take back a pin; where there is none, nothing changes."""
        async with self._database.writing() as session:
            await get_workspace(session, request.id)
            await session.execute(
                delete(WorkspacePinRow).where(
                    WorkspacePinRow.workspace_id == request.id,
                    WorkspacePinRow.user_id == call.principal.user_id,
                )
            )
        return api.UnpinWorkspaceResponse()

    async def _load(self, workspace_id: int, call: Call) -> Workspace:
        async with self._database.reading() as session:
            return await load_workspace(session, call.principal.user_id, workspace_id)

    async def _set_archived(self, workspace_id: int, call: Call, *, is_archived: bool) -> None:
        async with self._database.writing() as session:
            row = await get_own_workspace(session, workspace_id, call.principal)
            row.archived = is_archived

    async def _check_pools(
        self, session: AsyncSession, pools: Set[str], *, workspace_id: int | None
    ) -> None:
        """Refuse default pools that the tasks of the workspace could not use."""
        barred = await list_barred_pools(session, workspace_id)
        for pool in sorted(pools):
            try:
                self._cluster.choose_pool(pool, slots=0)
            except PoolNotFound as error:
                raise InvalidArgument(str(error)) from error
            if pool in barred:
                raise InvalidArgument(f"resource pool {pool} is bound to other workspaces")


def _is_wanted(workspace: Workspace, request: api.GetWorkspacesRequest) -> bool:
    return (
        (not request.name or fold_name(workspace.name) == fold_name(request.name))
        and (not request.name_case_sensitive or workspace.name == request.name_case_sensitive)
        and (not request.HasField("archived") or workspace.archived == request.archived.value)
        and (not request.HasField("pinned") or workspace.pinned == request.pinned.value)
        and (not request.users or workspace.username in request.users)
        and (not request.user_ids or workspace.user_id in request.user_ids)
    )


async def _find_unused_id(session: AsyncSession) -> int | None:
    """SQLite gives the id of a deleted row again, but tasks that ended still say where they were.

    Returns:
        None: the database itself never gives one twice.
    """
    if session.get_bind().dialect.name != "sqlite":
        return None
    used = [
        await session.scalar(select(func.max(column))) or 0
        for column in (WorkspaceRow.id, TaskRow.workspace_id)
    ]
    return max(used) + 1


def _list_pools(row: WorkspaceRow) -> set[str]:
    return {row.default_compute_pool, row.default_aux_pool} - {""}


def _pin(workspace_id: int, user_id: int) -> WorkspacePinRow:
    return WorkspacePinRow(workspace_id=workspace_id, user_id=user_id, pinned_at=datetime.now(UTC))


def _name_is_taken(name: str) -> AlreadyExists:
    return AlreadyExists(f"workspace '{name}' already exists; upper and lower case do not matter")


def _apply(row: WorkspaceRow, changes: PatchWorkspace) -> None:
    if changes.HasField("name"):
        check_name("workspace", changes.name.value)
        row.name, row.folded_name = changes.name.value, fold_name(changes.name.value)
    if changes.HasField("agent_user_group"):
        _set_agent_user(row, changes.agent_user_group)
    if changes.HasField("checkpoint_storage_config"):
        storage = to_plain(changes.checkpoint_storage_config)
        row.checkpoint_storage = dump_storage(storage, before=row.checkpoint_storage)
    if changes.HasField("default_compute_resource_pool"):
        row.default_compute_pool = changes.default_compute_resource_pool
    elif changes.default_compute_pool:  # pyright: ignore[reportDeprecated]
        row.default_compute_pool = changes.default_compute_pool  # pyright: ignore[reportDeprecated]
    if changes.HasField("default_aux_resource_pool"):
        row.default_aux_pool = changes.default_aux_resource_pool
    elif changes.default_aux_pool:  # pyright: ignore[reportDeprecated]
        row.default_aux_pool = changes.default_aux_pool  # pyright: ignore[reportDeprecated]


def _set_agent_user(row: WorkspaceRow, group: AgentUserGroup) -> None:
    """Replace the whole; what is not given is the task's owner's again."""
    row.agent_uid = group.agent_uid if group.HasField("agent_uid") else None
    row.agent_gid = group.agent_gid if group.HasField("agent_gid") else None
    row.agent_user, row.agent_group = group.agent_user or None, group.agent_group or None
    for name, number in (("agentUid", row.agent_uid), ("agentGid", row.agent_gid)):
        if number is not None and number < 0:
            raise InvalidArgument(f"{name} must be 0 or more, not {number}")
