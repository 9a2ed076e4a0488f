"""What a workspace demands of the tasks in it, and which pools it gives them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.store.database import Database
from shipway_master.store.workspaces import PoolBindingRow, ProjectRow, WorkspaceRow
from shipway_master.tasks.errors import BadTask, TaskInWrongState, TaskNotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for the tasks of one workspace."""

    workspace_id: int
    workspace: str
    compute_pool: str
    """For tasks with slots that name no pool; empty: the cluster's."""
    aux_pool: str
    """The same for those without slots."""
    barred_pools: frozenset[str]
    """Bound to other workspaces only."""

    def choose_pool(self, pool: str, *, slots: int) -> str:
        """The name of the pool for a task that names *pool*; empty for the cluster's default."""
        return pool or (self.compute_pool if slots else self.aux_pool)

    def require_pool(self, pool: str) -> None:
        """Refuse a pool that is bound to other workspaces only.

        Raises:
            BadTask: It is.
        """
        if pool in self.barred_pools:
            raise BadTask(
                f"resource pool {pool} is bound to other workspaces, and not to {self.workspace!r}: "
                "name another pool, or have an administrator bind it (det rp bindings add)"
            )


class Workspaces:
    """Looks up what workspaces say."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load_terms(self, workspace_id: int, *, is_new: bool = True) -> Terms:
        """Load the terms of a workspace.

        Args:
            is_new: Whether they are for a new task, which an archived workspace does not take.

        Raises:
            TaskNotFound: There is no such workspace.
            TaskInWrongState: It takes no new tasks.
        """
        async with self._database.reading() as session:
            row = await session.get(WorkspaceRow, workspace_id)
            barred_pools = await list_barred_pools(session, workspace_id)
        if row is None:
            raise TaskNotFound("workspace", str(workspace_id))
        if is_new:
            _require_open("workspace", row)
        return Terms(
            workspace_id=workspace_id,
            workspace=row.name,
            compute_pool=row.default_compute_pool,
            aux_pool=row.default_aux_pool,
            barred_pools=barred_pools,
        )

    async def load_terms_of_project(self, project_id: int) -> Terms:
        """Load the terms of a project's workspace for something new.

        Raises:
            TaskNotFound: There is no such project.
            TaskInWrongState: The project or its workspace takes nothing new.
        """
        async with self._database.reading() as session:
            row = await session.get(ProjectRow, project_id)
        if row is None:
            raise TaskNotFound("project", str(project_id))
        _require_open("project", row)
        return await self.load_terms(row.workspace_id)


async def list_barred_pools(session: AsyncSession, workspace_id: int | None) -> frozenset[str]:
    """The pools that a workspace may not use; None: one that has no bindings yet."""
    bindings = (await session.scalars(select(PoolBindingRow))).all()
    own = {one.pool for one in bindings if one.workspace_id == workspace_id}
    return frozenset({one.pool for one in bindings} - own)


def _require_open(kind: str, row: WorkspaceRow | ProjectRow) -> None:
    if row.deletion:
        raise TaskInWrongState(f"{kind} '{row.name}' is being deleted")
    if row.archived:
        raise TaskInWrongState(f"{kind} '{row.name}' is archived: unarchive it to use it again")
