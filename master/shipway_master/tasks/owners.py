"""Who owns a task, and as whom its processes run on the nodes."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from shipway_common.settings import Settings
from shipway_master.store.database import Database
from shipway_master.store.users import UserRow
from shipway_master.tasks.launch import AgentUser


class DefaultTaskUser(Settings):
    """`security.default_task`: as whom tasks run whose owner has no agent user of his own."""

    user: str | None = None
    """Unix user; Slurm jobs run as this one. Unset: as the launcher's own."""
    uid: int = 0
    group: str | None = None
    gid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The owner of a task."""

    id: int
    username: str
    display_name: str
    agent_user: AgentUser


class Owners:
    """Looks owners up."""

    def __init__(self, database: Database, default: DefaultTaskUser) -> None:
        self._database = database
        self._default = default

    async def load(self, user_ids: set[int]) -> dict[int, Owner]:
        """Load some users by their ids."""
        statement = select(UserRow).where(UserRow.id.in_(user_ids))
        async with self._database.reading() as session:
            rows = (await session.scalars(statement)).all()
        return {
            row.id: Owner(
                id=row.id,
                username=row.username,
                display_name=row.display_name,
                agent_user=self._choose_agent_user(row),
            )
            for row in rows
        }

    async def get(self, user_id: int) -> Owner:
        """Load one user, who is there because a task is his."""
        return (await self.load({user_id}))[user_id]

    def _choose_agent_user(self, row: UserRow) -> AgentUser:
        default = self._default
        return AgentUser(
            user=row.agent_user or default.user or "root",
            uid=default.uid if row.agent_uid is None else row.agent_uid,
            group=row.agent_group or default.group or "root",
            gid=default.gid if row.agent_gid is None else row.agent_gid,
            is_chosen=(row.agent_user or default.user) is not None,
        )
