"""Projects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.auth import Principal
from shipway_master.errors import FailedPrecondition, NotFound, PermissionDenied
from shipway_master.experiments.experiments import Experiments
from shipway_master.pages import cut_page
from shipway_master.rpc import Call
from shipway_master.store.again import write_looking
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow
from shipway_master.store.workspaces import ProjectRow
from shipway_master.tasks.workspaces import list_barred_pools
from shipway_master.workspaces.names import check_name, fold_name, read_key
from shipway_master.workspaces.projects import (
    apply_changes,
    check_description,
    check_notes,
    dump_note,
    find_free_key,
    require_free_key,
    require_free_name,
)
from shipway_master.workspaces.removal import Removal
from shipway_master.workspaces.rights import (
    get_own_project,
    get_workspace,
    require_room,
    require_unarchived,
)
from shipway_master.workspaces.views import load_project, load_projects
from shipway_proto.determined.api.v1 import project_pb2 as api
from shipway_proto.determined.api.v1.pagination_pb2 import ORDER_BY_DESC
from shipway_proto.determined.api.v1.workspace_pb2 import (
    GetWorkspaceProjectsRequest,
    GetWorkspaceProjectsResponse,
)
from shipway_proto.determined.project.v1.project_pb2 import Note, Project

_NEVER_NS = 2**63

_SORT_KEYS: dict[int, Callable[[Project], Any]] = {
    GetWorkspaceProjectsRequest.SORT_BY_NAME: lambda project: project.name,
    GetWorkspaceProjectsRequest.SORT_BY_DESCRIPTION: lambda project: project.description,
    GetWorkspaceProjectsRequest.SORT_BY_LAST_EXPERIMENT_START_TIME: lambda project: (
        project.last_experiment_started_at.ToNanoseconds()
        if project.HasField("last_experiment_started_at")
        else _NEVER_NS
    ),
}
"""Ids are given in the order of creation."""


class ProjectService:
    """The RPCs of projects. Everyone sees all, and makes some; those change one who own it or its
    workspace."""

    def __init__(self, database: Database, removal: Removal, experiments: Experiments) -> None:
        self._database, self._removal = database, removal
        self._experiments = experiments

    async def GetProject(
        self, request: api.GetProjectRequest, call: Call
    ) -> api.GetProjectResponse:
        """Find a project by id."""
        return api.GetProjectResponse(project=await self._load(request.id))

    async def GetProjectByKey(
        self, request: api.GetProjectByKeyRequest, call: Call
    ) -> api.GetProjectByKeyResponse:
        """Find a project by its key, in upper or lower case."""
        async with self._database.reading() as session:
            found = await load_projects(session, ProjectRow.key == request.key.upper())
        if not found:
            raise NotFound("project", request.key)
        return api.GetProjectByKeyResponse(project=found[0])

    async def GetWorkspaceProjects(
        self, request: GetWorkspaceProjectsRequest, call: Call
    ) -> GetWorkspaceProjectsResponse:
        """List the projects of a workspace, or of all (id 0); a name must match as a whole."""
        async with self._database.reading() as session:
            if request.id:
                await get_workspace(session, request.id)
                projects = await load_projects(session, ProjectRow.workspace_id == request.id)
            else:
                projects = await load_projects(session)
        found = [project for project in projects if _is_wanted(project, request)]
        if request.sort_by in _SORT_KEYS:
            found.sort(key=_SORT_KEYS[request.sort_by])
        if request.order_by == ORDER_BY_DESC:
            found.reverse()
        page, pagination = cut_page(found, offset=request.offset, limit=request.limit)
        return GetWorkspaceProjectsResponse(projects=page, pagination=pagination)

    async def PostProject(
        self, request: api.PostProjectRequest, call: Call
    ) -> api.PostProjectResponse:
        """Make a project, owned by the caller."""
        check_name("project", request.name)
        check_description(request.description)
        given_key = read_key(request.key) if request.key else None

        async def add(session: AsyncSession) -> int:
            require_room(await get_workspace(session, request.workspace_id))
            row = ProjectRow(
                workspace_id=request.workspace_id,
                name=request.name,
                folded_name=fold_name(request.name),
                description=request.description,
                notes=[],
                user_id=call.principal.user_id,
            )
            await require_free_name(session, row)
            if given_key is not None:
                await require_free_key(session, given_key)
            row.key = given_key or await find_free_key(session, request.name)
            session.add(row)
            await session.flush()
            return row.id

        project_id = await write_looking(self._database, add)
        return api.PostProjectResponse(project=await self._load(project_id))

    async def PatchProject(
        self, request: api.PatchProjectRequest, call: Call
    ) -> api.PatchProjectResponse:
        """Change a project's name, description or key."""

        async def change(session: AsyncSession) -> None:
            row, _ = await get_own_project(session, request.id, call.principal)
            require_unarchived("project", row)
            await apply_changes(session, row, request.project)

        await write_looking(self._database, change)
        return api.PatchProjectResponse(project=await self._load(request.id))

    async def AddProjectNote(
        self, request: api.AddProjectNoteRequest, call: Call
    ) -> api.AddProjectNoteResponse:
        """Add a page of text to a project."""
        async with self._database.writing() as session:
            row, _ = await get_own_project(session, request.project_id, call.principal)
            row.notes = check_notes([*row.notes, dump_note(request.note)])
        return api.AddProjectNoteResponse(notes=[Note(**note) for note in row.notes])

    async def PutProjectNotes(
        self, request: api.PutProjectNotesRequest, call: Call
    ) -> api.PutProjectNotesResponse:
        """Replace all pages of text of a project."""
        async with self._database.writing() as session:
            row, _ = await get_own_project(session, request.project_id, call.principal)
            row.notes = check_notes([dump_note(note) for note in request.notes])
        return api.PutProjectNotesResponse(notes=request.notes)

    async def DeleteProject(
        self, request: api.DeleteProjectRequest, call: Call
    ) -> api.DeleteProjectResponse:
        """Delete a project; in the background while it has experiments."""
        completed = await self._removal.remove_project(request.id, call.principal)
        return api.DeleteProjectResponse(completed=completed)

    async def ArchiveProject(
        self, request: api.ArchiveProjectRequest, call: Call
    ) -> api.ArchiveProjectResponse:
        """Hide a project and keep new experiments out of it."""
        await self._set_archived(request.id, call.principal, is_archived=True)
        return api.ArchiveProjectResponse()

    async def UnarchiveProject(
        self, request: api.UnarchiveProjectRequest, call: Call
    ) -> api.UnarchiveProjectResponse:
        """Show an archived project again."""
        await self._set_archived(request.id, call.principal, is_archived=False)
        return api.UnarchiveProjectResponse()

    async def MoveProject(
        self, request: api.MoveProjectRequest, call: Call
    ) -> api.MoveProjectResponse:
        """Move a project, its experiments with it, to another workspace; only its owner does."""

        async def move(session: AsyncSession) -> list[int]:
            row, _ = await get_own_project(session, request.project_id, call.principal)
            if not call.principal.is_admin and row.user_id != call.principal.user_id:
                raise PermissionDenied("non admin users can't move projects of others")
            require_unarchived("project", row)
            require_room(await get_workspace(session, request.destination_workspace_id))
            row.workspace_id = request.destination_workspace_id
            await require_free_name(session, row)
            of_it = ExperimentRow.project_id == row.id
            await _require_pools(session, row.workspace_id, of_it)
            return list(await session.scalars(select(ExperimentRow.id).where(of_it)))

        experiment_ids = await write_looking(self._database, move)
        await self._experiments.relocate(experiment_ids, request.destination_workspace_id)
        return api.MoveProjectResponse()

    async def _load(self, project_id: int) -> Project:
        async with self._database.reading() as session:
            return await load_project(session, project_id)

    async def _set_archived(
        self, project_id: int, principal: Principal, *, is_archived: bool
    ) -> None:
        async with self._database.writing() as session:
            row, _ = await get_own_project(session, project_id, principal)
            row.archived = is_archived


def _is_wanted(project: Project, request: GetWorkspaceProjectsRequest) -> bool:
    return (
        (not request.name or fold_name(project.name) == fold_name(request.name))
        and (not request.HasField("archived") or project.archived == request.archived.value)
        and (not request.users or project.username in request.users)
        and (not request.user_ids or project.user_id in request.user_ids)
    )


async def _require_pools(
    session: AsyncSession, workspace_id: int, of_it: ColumnElement[bool]
) -> None:
    """Refuse a workspace that may not use a pool of experiments that have not ended."""
    lives = ExperimentRow.ended_at.is_(None)
    pools = set(await session.scalars(select(ExperimentRow.resource_pool).where(of_it, lives)))
    barred = sorted(pools & await list_barred_pools(session, workspace_id))
    if barred:
        raise FailedPrecondition(
            f"experiments of the project run in {', '.join(barred)}, which the workspace may not use"
        )
