"""Policies in the database."""

from __future__ import annotations

import json

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.policies.model import Policy, Workload
from shipway_master.policies.rules import Rules
from shipway_master.store.database import Database
from shipway_master.store.policies import EVERYWHERE, PolicyRow


class PolicyRecords:
    """Reads and writes policies."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, workspace_id: int, workload: Workload) -> Policy | None:
        """Load one policy; None if nobody made it."""
        async with self._database.reading() as session:
            row = await session.get(PolicyRow, (workspace_id, workload.value))
        return None if row is None else _read(row)

    async def load_rules(self, workspace_id: int, workload: Workload) -> Rules:
        """Load what holds for a workload in a workspace."""
        statement = (
            select(PolicyRow)
            .where(
                PolicyRow.workspace_id.in_((workspace_id, EVERYWHERE)),
                PolicyRow.workload == workload.value,
            )
            .order_by(PolicyRow.workspace_id.desc())
        )
        async with self._database.reading() as session:
            return Rules([_read(row) for row in await session.scalars(statement)])


async def put_policy(
    session: AsyncSession, workspace_id: int, workload: Workload, policy: Policy
) -> None:
    """Store a policy in the place of the one that was there."""
    await session.merge(
        PolicyRow(
            workspace_id=workspace_id,
            workload=workload.value,
            invariant_config=json.dumps(policy.invariant_config),
            constraints=json.dumps(policy.constraints),
        )
    )


def _read(row: PolicyRow) -> Policy:
    return Policy(
        invariant_config=json.loads(row.invariant_config), constraints=json.loads(row.constraints)
    )
