"""Allocations in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.agents.devices import dump_device, read_devices
from shipway_master.allocations.exits import Failure, FailureType
from shipway_master.allocations.ids import AgentId, AllocationId, ResourcesId, TaskId
from shipway_master.allocations.life import AllocationState, ResourcesState
from shipway_master.allocations.preemption import PreemptionCause
from shipway_master.allocations.ranks import RankReports
from shipway_master.allocations.rendezvous import Address
from shipway_master.cluster.manager import Assignment
from shipway_master.store.database import Database
from shipway_master.store.tasks import AllocationRow, RankRow, ResourcesRow


@dataclass(slots=True, kw_only=True)
class Share:
    """One container or job of an allocation, and what is known of it."""

    assignment: Assignment
    state: ResourcesState = ResourcesState.ASSIGNED
    addresses: tuple[Address, ...] = ()
    native_id: str = ""
    is_daemon: bool = False
    is_exited: bool = False
    failure: Failure | None = None

    @property
    def id(self) -> ResourcesId:
        """The id of its resources."""
        return self.assignment.resources_id


@dataclass(slots=True, kw_only=True)
class AllocationRecord:
    """Everything about an allocation that outlives the process."""

    allocation_id: AllocationId
    task_id: TaskId
    run: int
    slots: int
    state: AllocationState = AllocationState.PENDING
    is_ready: bool = False
    requested_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_reason: str | None = None
    status_code: int | None = None
    preemption_cause: PreemptionCause | None = None
    preempted_at: datetime | None = None
    preemption_acked: bool = False
    kill_reason: str | None = None
    proxy_address: str | None = None
    shares: list[Share] = field(default_factory=list[Share])
    ranks: RankReports = field(default_factory=RankReports)


class AllocationRecords:
    """Reads and writes the records."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, record: AllocationRecord) -> None:
        """Store a new allocation."""
        async with self._database.writing() as session:
            session.add(AllocationRow(allocation_id=record.allocation_id, **_columns(record)))

    async def save(self, record: AllocationRecord) -> None:
        """Store what has changed, the shares included."""
        statement = update(AllocationRow).where(AllocationRow.allocation_id == record.allocation_id)
        async with self._database.writing() as session:
            await session.execute(statement.values(**_columns(record)))
            for number, share in enumerate(record.shares):
                await session.merge(_make_share_row(record.allocation_id, number, share))

    async def forget_shares(self, record: AllocationRecord) -> None:
        """Remove shares that were assigned and not wanted."""
        async with self._database.writing() as session:
            await session.execute(
                delete(ResourcesRow).where(ResourcesRow.allocation_id == record.allocation_id)
            )

    async def add_rank(
        self, allocation_id: AllocationId, rank: int, *, num_peers: int, node_name: str
    ) -> None:
        """Store that a rank has reported."""
        row = RankRow(
            allocation_id=allocation_id, rank=rank, num_peers=num_peers, node_name=node_name
        )
        async with self._database.writing() as session:
            await session.merge(row)

    async def load_of_tasks(self, task_ids: Sequence[TaskId]) -> list[AllocationRecord]:
        """Load the allocations of some tasks, newest first, without ranks."""
        statement = (
            select(AllocationRow)
            .where(AllocationRow.task_id.in_(task_ids))
            .order_by(AllocationRow.run.desc())
        )
        async with self._database.reading() as session:
            rows = (await session.scalars(statement)).all()
        return [_make_record(row, [], []) for row in rows]

    async def load(self, allocation_id: AllocationId) -> AllocationRecord | None:
        """Load one allocation, live or not."""
        async with self._database.reading() as session:
            row = await session.get(AllocationRow, allocation_id)
        return None if row is None else _make_record(row, [], [])

    async def load_open(self) -> list[AllocationRecord]:
        """Load all allocations that have not ended, with everything."""
        async with self._database.reading() as session:
            rows = (
                await session.scalars(select(AllocationRow).where(AllocationRow.ended_at.is_(None)))
            ).all()
            return [await _load_whole(session, row) for row in rows]

    async def find_newest(self, task_id: TaskId) -> AllocationRecord | None:
        """Load the newest allocation of a task, ended or not, with everything."""
        statement = (
            select(AllocationRow)
            .where(AllocationRow.task_id == task_id)
            .order_by(AllocationRow.run.desc())
            .limit(1)
        )
        async with self._database.reading() as session:
            row = (await session.scalars(statement)).first()
            return None if row is None else await _load_whole(session, row)


async def _load_whole(session: AsyncSession, row: AllocationRow) -> AllocationRecord:
    shares = await session.scalars(
        select(ResourcesRow)
        .where(ResourcesRow.allocation_id == row.allocation_id)
        .order_by(ResourcesRow.number)
    )
    ranks = await session.scalars(select(RankRow).where(RankRow.allocation_id == row.allocation_id))
    return _make_record(row, shares.all(), ranks.all())


def _columns(record: AllocationRecord) -> dict[str, Any]:
    return {
        "task_id": record.task_id,
        "run": record.run,
        "slots": record.slots,
        "state": record.state.value,
        "is_ready": record.is_ready,
        "requested_at": record.requested_at,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "exit_reason": record.exit_reason,
        "status_code": record.status_code,
        "preemption_cause": record.preemption_cause and record.preemption_cause.value,
        "preempted_at": record.preempted_at,
        "preemption_acked": record.preemption_acked,
        "kill_reason": record.kill_reason,
        "proxy_address": record.proxy_address,
    }


def _make_share_row(allocation_id: AllocationId, number: int, share: Share) -> ResourcesRow:
    failure = share.failure
    return ResourcesRow(
        resources_id=share.id,
        allocation_id=allocation_id,
        number=number,
        agent_id=share.assignment.agent_id,
        slots=share.assignment.slots,
        devices=[dump_device(device) for device in share.assignment.devices],
        state=share.state.value,
        addresses=[asdict(address) for address in share.addresses],
        native_id=share.native_id,
        is_daemon=share.is_daemon,
        is_exited=share.is_exited,
        failure=None
        if failure is None
        else {
            "type": failure.type.value,
            "message": failure.message,
            "exit_code": failure.exit_code,
        },
    )


def _make_record(
    row: AllocationRow, shares: Sequence[ResourcesRow], rank_rows: Sequence[RankRow]
) -> AllocationRecord:
    ranks = RankReports()
    for rank in rank_rows:
        ranks.add(rank.rank, num_peers=rank.num_peers, node_name=rank.node_name)
    cause = row.preemption_cause
    return AllocationRecord(
        allocation_id=AllocationId(row.allocation_id),
        task_id=TaskId(row.task_id),
        run=row.run,
        slots=row.slots,
        state=AllocationState(row.state),
        is_ready=row.is_ready,
        requested_at=row.requested_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        exit_reason=row.exit_reason,
        status_code=row.status_code,
        preemption_cause=None if cause is None else PreemptionCause(cause),
        preempted_at=row.preempted_at,
        preemption_acked=row.preemption_acked,
        kill_reason=row.kill_reason,
        proxy_address=row.proxy_address,
        shares=[_make_share(share) for share in shares],
        ranks=ranks,
    )


def _make_share(row: ResourcesRow) -> Share:
    failure = row.failure
    return Share(
        assignment=Assignment(
            resources_id=ResourcesId(row.resources_id),
            slots=row.slots,
            agent_id=None if row.agent_id is None else AgentId(row.agent_id),
            devices=read_devices(row.devices),
        ),
        state=ResourcesState(row.state),
        addresses=tuple(Address(**address) for address in row.addresses),
        native_id=row.native_id,
        is_daemon=row.is_daemon,
        is_exited=row.is_exited,
        failure=None
        if failure is None
        else Failure(
            type=FailureType(failure["type"]),
            message=failure["message"],
            exit_code=failure["exit_code"],
        ),
    )
