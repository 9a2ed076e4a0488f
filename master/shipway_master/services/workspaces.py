"""Workspaces."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.errors import NotFound
from shipway_master.pages import cut_page
from shipway_master.rpc import Call
from shipway_master.store.database import Database
from shipway_master.store.users import UserRow
from shipway_master.store.workspaces import ProjectRow, WorkspaceRow
from shipway_proto.determined.api.v1.pagination_pb2 import ORDER_BY_DESC
from shipway_proto.determined.api.v1.workspace_pb2 import (
    GetWorkspaceRequest,
    GetWorkspaceResponse,
    GetWorkspacesRequest,
    GetWorkspacesResponse,
)
from shipway_proto.determined.workspace.v1.workspace_pb2 import Workspace


class WorkspaceService:
    """The RPCs of workspaces."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def GetWorkspace(self, request: GetWorkspaceRequest, call: Call) -> GetWorkspaceResponse:
        """Find a workspace by id."""
        async with self._database.reading() as session:
            for workspace in await _load(session):
                if workspace.id == request.id:
                    return GetWorkspaceResponse(workspace=workspace)
        raise NotFound("workspace", request.id)

    async def GetWorkspaces(
        self, request: GetWorkspacesRequest, call: Call
    ) -> GetWorkspacesResponse:
        """List workspaces; a name must match as a whole."""
        async with self._database.reading() as session:
            found = [item for item in await _load(session) if _is_wanted(item, request)]
        if request.sort_by == GetWorkspacesRequest.SORT_BY_NAME:
            found.sort(key=lambda workspace: workspace.name)
        if request.order_by == ORDER_BY_DESC:
            found.reverse()
        page, pagination = cut_page(found, offset=request.offset, limit=request.limit)
        return GetWorkspacesResponse(workspaces=page, pagination=pagination)


def _is_wanted(workspace: Workspace, request: GetWorkspacesRequest) -> bool:
    return (
        (not request.name or workspace.name.casefold() == request.name.casefold())
        and (not request.name_case_sensitive or workspace.name == request.name_case_sensitive)
        and (not request.HasField("archived") or workspace.archived == request.archived.value)
        and (not request.HasField("pinned") or workspace.pinned == request.pinned.value)
        and (not request.users or workspace.username in request.users)
        and (not request.user_ids or workspace.user_id in request.user_ids)
    )


async def _load(session: AsyncSession) -> list[Workspace]:
    projects = (
        select(ProjectRow.workspace_id, func.count().label("count"))
        .group_by(ProjectRow.workspace_id)
        .subquery()
    )
    statement = (
        select(WorkspaceRow, UserRow.username, func.coalesce(projects.c.count, 0))
        .join(UserRow, UserRow.id == WorkspaceRow.user_id)
        .outerjoin(projects, projects.c.workspace_id == WorkspaceRow.id)
        .order_by(WorkspaceRow.id)
    )
    return [
        Workspace(
            id=row.id,
            name=row.name,
            archived=row.archived,
            immutable=row.immutable,
            user_id=row.user_id,
            username=username,
            num_projects=projects_count,
        )
        for row, username, projects_count in await session.execute(statement)
    ]
