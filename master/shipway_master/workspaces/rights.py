"""Who may change workspaces and projects, and which of them can be changed."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.auth import Principal
from shipway_master.errors import FailedPrecondition, NotFound, PermissionDenied
from shipway_master.store.workspaces import ProjectRow, WorkspaceRow


async def get_workspace(session: AsyncSession, workspace_id: int) -> WorkspaceRow:
    """Read a workspace.

    Raises:
        NotFound: There is none with this id.
    """
    row = await session.get(WorkspaceRow, workspace_id)
    if row is None:
        raise NotFound("workspace", workspace_id)
    return row


async def get_own_workspace(
    session: AsyncSession, workspace_id: int, principal: Principal
) -> WorkspaceRow:
    """Read a workspace that *principal* wants to change.

    Raises:
        NotFound: There is none with this id.
        PermissionDenied: It is somebody else's.
        FailedPrecondition: Nobody can change it.
    """
    row = await get_workspace(session, workspace_id)
    principal.require_owner_or_admin(row.user_id)
    _require_mutable("workspace", row)
    return row


async def get_project(session: AsyncSession, project_id: int) -> tuple[ProjectRow, WorkspaceRow]:
    """Read a project and its workspace.

    Raises:
        NotFound: There is none with this id.
    """
    row = await session.get(ProjectRow, project_id)
    if row is None:
        raise NotFound("project", project_id)
    return row, await session.get_one(WorkspaceRow, row.workspace_id)


async def get_own_project(
    session: AsyncSession, project_id: int, principal: Principal
) -> tuple[ProjectRow, WorkspaceRow]:
    """Read a project that *principal* wants to change: as its owner, or as its workspace's.

    Raises:
        NotFound: There is none with this id.
        PermissionDenied: It is somebody else's.
        FailedPrecondition: Nobody can change it, or not while its workspace is archived.
    """
    row, workspace = await get_project(session, project_id)
    if not principal.is_admin and principal.user_id not in (row.user_id, workspace.user_id):
        raise PermissionDenied("non admin users need to own the project or workspace")
    _require_mutable("project", row)
    if workspace.archived:
        raise FailedPrecondition(
            "this project belongs to an archived workspace: to make changes, first unarchive that"
        )
    return row, workspace


def require_unarchived(kind: str, row: WorkspaceRow | ProjectRow) -> None:
    """Refuse to change what an archived workspace or project says.

    Raises:
        FailedPrecondition: It is archived.
    """
    if row.archived:
        raise FailedPrecondition(
            f"{kind} ({row.id}) is archived and cannot have attributes updated"
        )


def require_room(workspace: WorkspaceRow) -> None:
    """Refuse workspaces that take no new projects.

    Raises:
        FailedPrecondition: It is one.
    """
    for is_so, state in (
        (workspace.immutable, "immutable"),
        (workspace.archived, "archived"),
        (bool(workspace.deletion), "being deleted"),
    ):
        if is_so:
            raise FailedPrecondition(
                f"workspace ({workspace.id}) is {state} and cannot add new projects"
            )


def _require_mutable(kind: str, row: WorkspaceRow | ProjectRow) -> None:
    if row.immutable:
        raise FailedPrecondition(
            f"{kind} ({row.id}) is immutable and cannot have attributes updated"
        )
