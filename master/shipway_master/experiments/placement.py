"""Where a new experiment is to be: its project, and what the workspace of that says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from shipway_master.experiments.errors import BadExperiment
from shipway_master.store.database import Database
from shipway_master.store.workspaces import ProjectRow, WorkspaceRow
from shipway_master.tasks.workspaces import Terms, Workspaces

_DEFAULT_PROJECT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The project of a new experiment."""

    project_id: int
    terms: Terms
    storages: Sequence[Mapping[str, Any]] = field(repr=False)
    """`checkpoint_storage` of the workspace and of the master, as far as they have one."""


class Placement:
    """Finds the projects of new experiments.

    Args:
        checkpoint_storage: The master's.
    """

    def __init__(
        self, database: Database, workspaces: Workspaces, checkpoint_storage: Mapping[str, Any]
    ) -> None:
        self._database, self._workspaces = database, workspaces
        self._checkpoint_storage = checkpoint_storage

    async def find(self, project_id: int, *, workspace: str, project: str) -> Place:
        """Find a project by its id or, where that is 0, by the names in a configuration.

        Raises:
            BadExperiment: One name is there without the other, or names nothing.
            TaskNotFound: There is no project of that id.
            TaskInWrongState: The project or its workspace takes nothing new.
        """
        if not project_id:
            project_id = await self._find_by_names(workspace, project)
        terms = await self._workspaces.load_terms_of_project(project_id)
        async with self._database.reading() as session:
            row = await session.get_one(WorkspaceRow, terms.workspace_id)
        own = json.loads(row.checkpoint_storage) if row.checkpoint_storage else None
        storages = [one for one in (own, self._checkpoint_storage) if one]
        return Place(project_id=project_id, terms=terms, storages=storages)

    async def _find_by_names(self, workspace: str, project: str) -> int:
        if not workspace and not project:
            return _DEFAULT_PROJECT
        if not (workspace and project):
            raise BadExperiment("workspace and project belong together: name both or none")
        statement = (
            select(ProjectRow.id)
            .join(WorkspaceRow, WorkspaceRow.id == ProjectRow.workspace_id)
            .where(WorkspaceRow.name == workspace, ProjectRow.name == project)
        )
        async with self._database.reading() as session:
            project_id = await session.scalar(statement)
        if project_id is None:
            raise BadExperiment(f"workspace {workspace!r} has no project {project!r}")
        return project_id
