"""Workspaces and projects as clients are told of them, with the numbers of what is in them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.selectable import Subquery

from shipway_master.errors import NotFound
from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.store.users import UserRow
from shipway_master.store.workspaces import ProjectRow, WorkspacePinRow, WorkspaceRow
from shipway_master.structs import to_struct
from shipway_master.workspaces.storage import mask_storage
from shipway_proto.determined.project.v1.project_pb2 import Note, Project
from shipway_proto.determined.user.v1.user_pb2 import AgentUserGroup
from shipway_proto.determined.workspace.v1.workspace_pb2 import Workspace, WorkspaceState


async def load_workspaces(
    session: AsyncSession, user_id: int, *conditions: ColumnElement[bool]
) -> list[Workspace]:
    """Load workspaces by id, as the user *user_id* sees them."""
    projects = (
        select(ProjectRow.workspace_id, func.count().label("count"))
        .group_by(ProjectRow.workspace_id)
        .subquery()
    )
    experiments = (
        select(ProjectRow.workspace_id, func.count().label("count"))
        .join(ExperimentRow, ExperimentRow.project_id == ProjectRow.id)
        .group_by(ProjectRow.workspace_id)
        .subquery()
    )
    statement = (
        select(
            WorkspaceRow,
            UserRow.username,
            func.coalesce(projects.c.count, 0).label("projects"),
            func.coalesce(experiments.c.count, 0).label("experiments"),
            WorkspacePinRow.pinned_at,
        )
        .join(UserRow, UserRow.id == WorkspaceRow.user_id)
        .outerjoin(projects, projects.c.workspace_id == WorkspaceRow.id)
        .outerjoin(experiments, experiments.c.workspace_id == WorkspaceRow.id)
        .outerjoin(
            WorkspacePinRow,
            and_(
                WorkspacePinRow.workspace_id == WorkspaceRow.id, WorkspacePinRow.user_id == user_id
            ),
        )
        .where(*conditions)
        .order_by(WorkspaceRow.id)
    )
    workspaces: list[Workspace] = []
    for found in await session.execute(statement):
        workspace = _view_workspace(found.WorkspaceRow)
        workspace.username = found.username
        workspace.num_projects = found.projects
        workspace.num_experiments = found.experiments
        if found.pinned_at is not None:
            workspace.pinned = True
            workspace.pinned_at.FromDatetime(found.pinned_at)
        workspaces.append(workspace)
    return workspaces


async def load_workspace(session: AsyncSession, user_id: int, workspace_id: int) -> Workspace:
    """Load one workspace.

    Raises:
        NotFound: There is none with this id.
    """
    for workspace in await load_workspaces(session, user_id, WorkspaceRow.id == workspace_id):
        return workspace
    raise NotFound("workspace", workspace_id)


async def load_projects(session: AsyncSession, *conditions: ColumnElement[bool]) -> list[Project]:
    """Load projects by id."""
    experiments, runs = _count_experiments(), _count_runs()
    statement = (
        select(
            ProjectRow,
            WorkspaceRow.name,
            WorkspaceRow.archived,
            UserRow.username,
            func.coalesce(experiments.c.count, 0).label("experiments"),
            func.coalesce(experiments.c.active, 0).label("active"),
            experiments.c.last_started_at,
            func.coalesce(runs.c.count, 0).label("runs"),
        )
        .join(WorkspaceRow, WorkspaceRow.id == ProjectRow.workspace_id)
        .join(UserRow, UserRow.id == ProjectRow.user_id)
        .outerjoin(experiments, experiments.c.project_id == ProjectRow.id)
        .outerjoin(runs, runs.c.project_id == ProjectRow.id)
        .where(*conditions)
        .order_by(ProjectRow.id)
    )
    return [_view_project(*found) for found in await session.execute(statement)]


async def load_project(session: AsyncSession, project_id: int) -> Project:
    """Load one project.

    Raises:
        NotFound: There is none with this id.
    """
    for project in await load_projects(session, ProjectRow.id == project_id):
        return project
    raise NotFound("project", project_id)


def _count_experiments() -> Subquery:
    return (
        select(
            ExperimentRow.project_id,
            func.count().label("count"),
            # of ended_at, which those that live have not
            (func.count() - func.count(ExperimentRow.ended_at)).label("active"),
            func.max(ExperimentRow.started_at).label("last_started_at"),
        )
        .group_by(ExperimentRow.project_id)
        .subquery()
    )


def _count_runs() -> Subquery:
    return (
        select(TrialRow.project_id, func.count().label("count"))
        .group_by(TrialRow.project_id)
        .subquery()
    )


def _view_workspace(row: WorkspaceRow) -> Workspace:
    workspace = Workspace(
        id=row.id,
        name=row.name,
        archived=row.archived,
        immutable=row.immutable,
        user_id=row.user_id,
        state=_state(row.deletion),
        error_message=row.error_message,
        default_compute_pool=row.default_compute_pool,
        default_aux_pool=row.default_aux_pool,
    )
    group = AgentUserGroup(
        agent_uid=row.agent_uid,
        agent_gid=row.agent_gid,
        agent_user=row.agent_user,
        agent_group=row.agent_group,
    )
    if group.ListFields():
        workspace.agent_user_group.CopyFrom(group)
    if row.checkpoint_storage is not None:
        to_struct(mask_storage(row.checkpoint_storage), workspace.checkpoint_storage_config)
    return workspace


def _view_project(
    row: ProjectRow, workspace: str, is_workspace_archived: bool, username: str, *numbers: Any
) -> Project:
    experiments, active, last_started_at, runs = numbers
    project = Project(
        id=row.id,
        name=row.name,
        key=row.key,
        workspace_id=row.workspace_id,
        workspace_name=workspace,
        description=row.description,
        notes=[Note(**note) for note in row.notes],
        archived=row.archived or is_workspace_archived,
        immutable=row.immutable,
        user_id=row.user_id,
        username=username,
        state=_state(row.deletion),
        error_message=row.error_message,
        num_experiments=experiments,
        num_active_experiments=active,
        num_runs=runs,
    )
    if last_started_at is not None:
        project.last_experiment_started_at.FromDatetime(last_started_at)
    return project


def _state(deletion: str) -> WorkspaceState.ValueType:
    return WorkspaceState.Value(f"WORKSPACE_STATE_{deletion or 'UNSPECIFIED'}")
