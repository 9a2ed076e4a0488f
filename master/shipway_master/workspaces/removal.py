"""How workspaces and projects are deleted: whole, or not at all."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.auth import Principal
from shipway_master.errors import FailedPrecondition
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow
from shipway_master.store.models import ModelRow
from shipway_master.store.templates import TemplateRow
from shipway_master.store.workspaces import ProjectRow, WorkspaceRow
from shipway_master.tasks.tasks import Tasks
from shipway_master.workspaces.rights import get_own_project, get_own_workspace

DELETING = "DELETING"


class Removal:
    """Deletes workspaces and projects that hold no experiments any more."""

    def __init__(self, database: Database, tasks: Tasks) -> None:
        self._database, self._tasks = database, tasks

    async def remove_workspace(self, workspace_id: int, principal: Principal) -> None:
        """Delete a workspace with its projects and templates, and end the tasks in it.

        From the first step on it takes nothing new; what stops half-way can be repeated.

        Raises:
            FailedPrecondition: It is immutable, or holds experiments or models.
        """
        async with self._database.writing() as session:
            row = await get_own_workspace(session, workspace_id, principal)
            projects = select(ProjectRow.id).where(ProjectRow.workspace_id == workspace_id)
            project_ids = (await session.scalars(projects)).all()
            await _require_no_experiments(session, f"workspace '{row.name}'", project_ids)
            await _require_no_models(session, row)
            row.deletion = DELETING
        for record in self._tasks.list_open():
            if record.workspace_id == workspace_id:
                await self._tasks.kill(record, reason="its workspace was deleted")
        try:
            async with self._database.writing() as session:
                for table in (TemplateRow, ProjectRow):
                    await session.execute(delete(table).where(table.workspace_id == workspace_id))
                await session.execute(delete(WorkspaceRow).where(WorkspaceRow.id == workspace_id))
        except IntegrityError as error:
            raise FailedPrecondition(
                f"workspace ({workspace_id}) was given something new meanwhile: delete it again"
            ) from error

    async def remove_project(self, project_id: int, principal: Principal) -> None:
        """Delete a project.

        Raises:
            FailedPrecondition: It is immutable, or holds experiments.
        """
        async with self._database.writing() as session:
            row, _ = await get_own_project(session, project_id, principal)
            await _require_no_experiments(session, f"project '{row.name}'", [project_id])
            await session.delete(row)


async def _require_no_experiments(
    session: AsyncSession, what: str, project_ids: Sequence[int]
) -> None:
    statement = (
        select(func.count())
        .select_from(ExperimentRow)
        .where(ExperimentRow.project_id.in_(project_ids))
    )
    if count := await session.scalar(statement):
        raise FailedPrecondition(f"{what} holds {count} experiments: move or delete them first")


async def _require_no_models(session: AsyncSession, workspace: WorkspaceRow) -> None:
    statement = select(func.count()).where(ModelRow.workspace_id == workspace.id)
    if count := await session.scalar(statement):
        raise FailedPrecondition(
            f"workspace '{workspace.name}' holds {count} models: move or delete them first"
        )
