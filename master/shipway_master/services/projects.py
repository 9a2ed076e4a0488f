"""Projects."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.auth import Principal
from shipway_master.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from shipway_master.pages import cut_page
from shipway_master.rpc import Call
from shipway_master.store.again import write_looking
from shipway_master.store.database import Database
from shipway_master.store.workspaces import ProjectRow, ProjectVisitRow
from shipway_master.workspaces.names import check_name, fold_name, make_key, read_key
from shipway_master.workspaces.removal import Removal
from shipway_master.workspaces.rights import (
    get_own_project,
    get_project,
    get_workspace,
    require_room,
    require_unarchived,
)
from shipway_master.workspaces.views import load_project, load_projects
from shipway_proto.determined.api.v1 import project_pb2 as api
from shipway_proto.determined.api.v1.pagination_pb2 import ORDER_BY_DESC
from shipway_proto.determined.api.v1.user_pb2 import (
    PostUserActivityRequest,
    PostUserActivityResponse,
)
from shipway_proto.determined.api.v1.workspace_pb2 import (
    GetWorkspaceProjectsRequest,
    GetWorkspaceProjectsResponse,
)
from shipway_proto.determined.project.v1.project_pb2 import Note, PatchProject, Project
from shipway_proto.determined.user.v1.user_pb2 import ACTIVITY_TYPE_GET, ENTITY_TYPE_PROJECT

_KEY_TRIES = 100
_LONGEST_DESCRIPTION = 10_000
_LONGEST_NOTES = 1_000_000
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

    def __init__(self, database: Database, removal: Removal) -> None:
        self._database, self._removal = database, removal

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
        _check_description(request.description)
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
            await _require_free_name(session, row)
            if given_key is not None:
                await _require_free_key(session, given_key)
            row.key = given_key or await _find_free_key(session, request.name)
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
            await _apply(session, row, request.project)

        await write_looking(self._database, change)
        return api.PatchProjectResponse(project=await self._load(request.id))

    async def AddProjectNote(
        self, request: api.AddProjectNoteRequest, call: Call
    ) -> api.AddProjectNoteResponse:
        """Add a page of text to a project."""
        async with self._database.writing() as session:
            row, _ = await get_own_project(session, request.project_id, call.principal)
            row.notes = _check_notes([*row.notes, _plain_note(request.note)])
        return api.AddProjectNoteResponse(notes=[Note(**note) for note in row.notes])

    async def PutProjectNotes(
        self, request: api.PutProjectNotesRequest, call: Call
    ) -> api.PutProjectNotesResponse:
        """Replace all pages of text of a project."""
        async with self._database.writing() as session:
            row, _ = await get_own_project(session, request.project_id, call.principal)
            row.notes = _check_notes([_plain_note(note) for note in request.notes])
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

        async def move(session: AsyncSession) -> None:
            row, _ = await get_own_project(session, request.project_id, call.principal)
            if not call.principal.is_admin and row.user_id != call.principal.user_id:
                raise PermissionDenied("non admin users can't move projects of others")
            require_unarchived("project", row)
            require_room(await get_workspace(session, request.destination_workspace_id))
            row.workspace_id = request.destination_workspace_id
            await _require_free_name(session, row)

        await write_looking(self._database, move)
        return api.MoveProjectResponse()

    async def PostUserActivity(
        self, request: PostUserActivityRequest, call: Call
    ) -> PostUserActivityResponse:
        """Remember that the caller looked at a project."""
        kinds = request.activity_type, request.entity_type
        if kinds != (ACTIVITY_TYPE_GET, ENTITY_TYPE_PROJECT):
            raise InvalidArgument("only looking at projects is remembered")

        async def note(session: AsyncSession) -> None:
            await get_project(session, request.entity_id)
            await session.merge(
                ProjectVisitRow(
                    user_id=call.principal.user_id,
                    project_id=request.entity_id,
                    visited_at=datetime.now(UTC),
                )
            )

        await write_looking(self._database, note)
        return PostUserActivityResponse()

    async def GetProjectsByUserActivity(
        self, request: api.GetProjectsByUserActivityRequest, call: Call
    ) -> api.GetProjectsByUserActivityResponse:
        """List the projects that the caller looked at, the last one first; limit 0 gives all."""
        if request.limit < 0:
            raise InvalidArgument("limit must be 0 or more")
        visits = (
            select(ProjectVisitRow.project_id)
            .where(ProjectVisitRow.user_id == call.principal.user_id)
            .order_by(ProjectVisitRow.visited_at.desc(), ProjectVisitRow.project_id)
            .limit(request.limit or None)
        )
        async with self._database.reading() as session:
            ids = list(await session.scalars(visits))
            projects = await load_projects(session, ProjectRow.id.in_(ids))
        projects.sort(key=lambda project: ids.index(project.id))
        return api.GetProjectsByUserActivityResponse(projects=projects)

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


async def _apply(session: AsyncSession, row: ProjectRow, changes: PatchProject) -> None:
    if changes.HasField("name"):
        check_name("project", changes.name.value)
        row.name, row.folded_name = changes.name.value, fold_name(changes.name.value)
        await _require_free_name(session, row)
    if changes.HasField("description"):
        _check_description(changes.description.value)
        row.description = changes.description.value
    if changes.HasField("key"):
        key = read_key(changes.key.value)
        if key != row.key:
            await _require_free_key(session, key)
        row.key = key


async def _require_free_name(session: AsyncSession, row: ProjectRow) -> None:
    statement = select(ProjectRow.id).where(
        ProjectRow.workspace_id == row.workspace_id, ProjectRow.folded_name == row.folded_name
    )
    with session.no_autoflush:
        taken = await session.scalar(statement)
    if taken not in (None, row.id):
        raise AlreadyExists(
            f"project '{row.name}' already exists in the workspace; upper and lower case do not "
            "matter"
        )


async def _require_free_key(session: AsyncSession, key: str) -> None:
    if await _is_taken(session, key):
        raise AlreadyExists(f"project key {key} is already in use")


async def _find_free_key(session: AsyncSession, name: str) -> str:
    for _ in range(_KEY_TRIES):
        key = make_key(name)
        if not await _is_taken(session, key):
            return key
    raise AlreadyExists(f"no key is left that begins like {name!r}: give one by --key")


async def _is_taken(session: AsyncSession, key: str) -> bool:
    return await session.scalar(select(ProjectRow.id).where(ProjectRow.key == key)) is not None


def _check_description(text: str) -> None:
    if len(text) > _LONGEST_DESCRIPTION:
        raise InvalidArgument(f"a description has at most {_LONGEST_DESCRIPTION} characters")


def _check_notes(notes: list[dict[str, str]]) -> list[dict[str, str]]:
    """Refuse what would make each list of projects slow."""
    if sum(len(text) for note in notes for text in note.values()) > _LONGEST_NOTES:
        raise InvalidArgument(f"the notes of a project have at most {_LONGEST_NOTES} characters")
    return notes


def _plain_note(note: Note) -> dict[str, str]:
    return {"name": note.name, "contents": note.contents}
