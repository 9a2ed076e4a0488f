"""Who owns a task, and as whom its processes run on the nodes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import select

from shipway_common.settings import Settings
from shipway_master.store.database import Database
from shipway_master.store.users import UserRow
from shipway_master.store.workspaces import WorkspaceRow
from shipway_master.tasks.launch import AgentUser


class DefaultTaskUser(Settings):
    """`security.default_task`: as whom tasks run where neither workspace nor owner says it."""

    user: str | None = None
    """Unix user; Slurm jobs run as this one. Unset: as the launcher's own."""
    uid: int = 0
    """Number of that user."""
    group: str | None = None
    """Unix group."""
    gid: int = 0
    """Number of that group."""


class Owned(Protocol):
    """Something that a user owns in a workspace."""

    @property
    def owner_id(self) -> int:
        """Id of the user."""
        ...

    @property
    def workspace_id(self) -> int:
        """Id of the workspace."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The owner of a task, as he is in the task's workspace."""

    id: int
    username: str
    display_name: str
    agent_user: AgentUser


class Owners:
    """Looks owners up."""

    def __init__(self, database: Database, default: DefaultTaskUser) -> None:
        self._database = database
        self._default = default

    async def load(self, owned: Collection[Owned]) -> list[Owner]:
        """Load the owners of some tasks, in the order of these."""
        users = select(UserRow).where(UserRow.id.in_({one.owner_id for one in owned}))
        workspaces = select(WorkspaceRow).where(
            WorkspaceRow.id.in_({one.workspace_id for one in owned})
        )
        async with self._database.reading() as session:
            user_rows = {row.id: row for row in await session.scalars(users)}
            workspace_rows = {row.id: row for row in await session.scalars(workspaces)}
        return [
            self._describe(user_rows[one.owner_id], workspace_rows.get(one.workspace_id))
            for one in owned
        ]

    async def get(self, owned: Owned) -> Owner:
        """Load the owner of one task."""
        return (await self.load([owned]))[0]

    def _describe(self, user: UserRow, workspace: WorkspaceRow | None) -> Owner:
        """Each part of the agent user is the workspace's, else the user's own, else the default."""
        rows: list[UserRow | WorkspaceRow] = [user] if workspace is None else [workspace, user]
        users = [row.agent_user for row in rows if row.agent_user]
        uids = [row.agent_uid for row in rows if row.agent_uid is not None]
        groups = [row.agent_group for row in rows if row.agent_group]
        gids = [row.agent_gid for row in rows if row.agent_gid is not None]
        default = self._default
        return Owner(
            id=user.id,
            username=user.username,
            display_name=user.display_name,
            agent_user=AgentUser(
                user=next(iter(users), default.user or "root"),
                uid=next(iter(uids), default.uid),
                group=next(iter(groups), default.group or "root"),
                gid=next(iter(gids), default.gid),
                is_chosen=bool(users) or default.user is not None,
            ),
        )
