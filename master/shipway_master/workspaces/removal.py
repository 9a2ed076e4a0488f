"""How workspaces and projects are deleted, with all that is in them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.auth import Principal
from shipway_master.background import Background
from shipway_master.errors import FailedPrecondition, MasterError
from shipway_master.experiments.errors import ExperimentNotFound, ExperimentRefused
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow
from shipway_master.store.models import ModelRow
from shipway_master.store.policies import PolicyRow
from shipway_master.store.templates import TemplateRow
from shipway_master.store.workspaces import ProjectRow, WorkspaceRow
from shipway_master.tasks.states import TaskType
from shipway_master.tasks.tasks import Tasks
from shipway_master.workspaces.rights import get_own_project, get_own_workspace

log = logging.getLogger(__name__)

DeleteExperiment = Callable[[int], Awaitable[None]]
"""Deletes an experiment and returns when it is gone; raises MasterError or ExperimentRefused."""

_Table = type[WorkspaceRow] | type[ProjectRow]

_SHOWN = 5
_DELETING, _FAILED = "DELETING", "DELETE_FAILED"
_OF_EXPERIMENTS = frozenset({TaskType.TRIAL, TaskType.CHECKPOINT_GC})
"""Tasks that end with their experiments, or outlive them to remove their files."""


class Removal:
    """Deletes workspaces and projects: at once, or in the background while experiments are in them.

    From the first step on they take nothing new. What a restart of the master interrupts goes on
    by `resume`; what fails is told by their state, and can be tried again.
    """

    def __init__(
        self,
        database: Database,
        tasks: Tasks,
        *,
        delete_experiment: DeleteExperiment,
        background: Background,
    ) -> None:
        self._database, self._tasks = database, tasks
        self._delete_experiment = delete_experiment
        self._background = background
        self._going_on: set[tuple[_Table, int]] = set()

    async def remove_workspace(self, workspace_id: int, principal: Principal) -> bool:
        """Delete a workspace with its projects and templates, and end the tasks in it.

        Returns:
            Whether it is gone already.

        Raises:
            FailedPrecondition: It is immutable, or holds models or experiments that live.
        """
        async with self._database.writing() as session:
            row = await get_own_workspace(session, workspace_id, principal)
            projects = select(ProjectRow.id).where(ProjectRow.workspace_id == workspace_id)
            project_ids = (await session.scalars(projects)).all()
            what = f"workspace '{row.name}'"
            has_experiments = await _has_experiments(session, what, project_ids)
            await _require_no_models(session, row)
            row.deletion, row.error_message = _DELETING, ""
        return await self._go_on(WorkspaceRow, workspace_id, in_background=has_experiments)

    async def remove_project(self, project_id: int, principal: Principal) -> bool:
        """Delete a project.

        Returns:
            Whether it is gone already.

        Raises:
            FailedPrecondition: It is immutable, or holds experiments that live.
        """
        async with self._database.writing() as session:
            row, _ = await get_own_project(session, project_id, principal)
            what = f"project '{row.name}'"
            has_experiments = await _has_experiments(session, what, [project_id])
            row.deletion, row.error_message = _DELETING, ""
        return await self._go_on(ProjectRow, project_id, in_background=has_experiments)

    async def resume(self) -> None:
        """Go on with what a restart of the master interrupted."""
        for table in (WorkspaceRow, ProjectRow):
            async with self._database.reading() as session:
                ids = await session.scalars(select(table.id).where(table.deletion == _DELETING))
            for row_id in ids.all():
                await self._go_on(table, row_id, in_background=True)

    async def _go_on(self, table: _Table, row_id: int, *, in_background: bool) -> bool:
        if not in_background:
            await self._finish(table, row_id)
        elif (table, row_id) not in self._going_on:
            self._going_on.add((table, row_id))
            work = self._finish_or_tell(table, row_id)
            self._background.start(work, name=f"deletion from {table.__tablename__}")
        return not in_background

    async def _finish_or_tell(self, table: _Table, row_id: int) -> None:
        try:
            await self._finish(table, row_id)
        except (MasterError, ExperimentRefused) as error:
            log.warning(
                "a workspace or project cannot be deleted",
                extra={"table": table.__tablename__, "id": row_id, "error": str(error)},
            )
            fails = update(table).where(table.id == row_id)
            async with self._database.writing() as session:
                await session.execute(fails.values(deletion=_FAILED, error_message=str(error)))
        finally:
            self._going_on.discard((table, row_id))

    async def _finish(self, table: _Table, row_id: int) -> None:
        in_it = ProjectRow.workspace_id if table is WorkspaceRow else ProjectRow.id
        projects = select(ProjectRow.id).where(in_it == row_id)
        experiments = select(ExperimentRow.id).where(ExperimentRow.project_id.in_(projects))
        async with self._database.reading() as session:
            experiment_ids = (await session.scalars(experiments)).all()
        for experiment_id in experiment_ids:
            with suppress(ExperimentNotFound):  # somebody has deleted it by itself meanwhile
                await self._delete_experiment(experiment_id)
        if table is WorkspaceRow:
            await self._end_tasks(row_id)
        try:
            async with self._database.writing() as session:
                if table is WorkspaceRow:
                    of_it = TemplateRow.workspace_id == row_id
                    await session.execute(delete(TemplateRow).where(of_it))
                    of_it = PolicyRow.workspace_id == row_id
                    await session.execute(delete(PolicyRow).where(of_it))
                await session.execute(delete(ProjectRow).where(in_it == row_id))
                await session.execute(delete(table).where(table.id == row_id))
        except IntegrityError as error:
            raise FailedPrecondition(
                "something new came into it meanwhile: delete it again"
            ) from error

    async def _end_tasks(self, workspace_id: int) -> None:
        for record in self._tasks.list_open():
            if record.workspace_id == workspace_id and record.task_type not in _OF_EXPERIMENTS:
                await self._tasks.kill(record, reason="its workspace was deleted")


async def _has_experiments(session: AsyncSession, what: str, project_ids: Sequence[int]) -> bool:
    """Whether there are any; those that live are in the way of *what*'s deletion."""
    in_it = ExperimentRow.project_id.in_(project_ids)
    lives = ExperimentRow.ended_at.is_(None)
    live_ids = (await session.scalars(select(ExperimentRow.id).where(in_it, lives))).all()
    if live_ids:
        shown = ", ".join(map(str, live_ids[:_SHOWN])) + (", …" if len(live_ids) > _SHOWN else "")
        raise FailedPrecondition(
            f"{what} holds experiments that have not ended ({shown}): kill or move them first"
        )
    return bool(await session.scalar(select(func.count()).where(in_it)))


async def _require_no_models(session: AsyncSession, workspace: WorkspaceRow) -> None:
    statement = select(func.count()).where(ModelRow.workspace_id == workspace.id)
    if count := await session.scalar(statement):
        raise FailedPrecondition(
            f"workspace '{workspace.name}' holds {count} models: move or delete them first"
        )
