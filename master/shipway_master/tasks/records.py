"""Tasks in the database."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, or_, select, update

from shipway_master.allocations.ids import JobId, TaskId
from shipway_master.store.database import Database
from shipway_master.store.tasks import TaskFilesRow, TaskRow
from shipway_master.tasks.files import TaskFile, pack, unpack
from shipway_master.tasks.model import TaskConfig
from shipway_master.tasks.service import Service
from shipway_master.tasks.states import TaskState, TaskType

_PREEMPTIBLE = {TaskType.GENERIC, TaskType.TRIAL}
_LABELS = {
    TaskType.COMMAND: "cmd",
    TaskType.SHELL: "shell",
    TaskType.NOTEBOOK: "notebook",
    TaskType.TENSORBOARD: "tensorboard",
}


@dataclass(slots=True, kw_only=True)
class TaskRecord:
    """Everything about a task but its files; state, end, exit status and place change."""

    task_id: TaskId
    task_type: TaskType
    job_id: JobId
    owner_id: int
    workspace_id: int
    description: str
    config: TaskConfig = field(repr=False)
    pool: str
    manager: str
    slots: int
    priority: int
    state: TaskState = TaskState.ACTIVE
    started_at: datetime
    ended_at: datetime | None = None
    exit_status: str = ""
    parent_id: TaskId | None = None
    forked_from: TaskId | None = None
    no_pause: bool = False
    service: Service | None = None
    first_run: int = 1

    @property
    def name(self) -> str:
        """What log lines call it."""
        if self.task_type is TaskType.GENERIC:
            return f"Generic Task {self.task_id}"
        return self.description

    @property
    def is_preemptible(self) -> bool:
        """Whether it can leave its resources and come back."""
        return self.task_type in _PREEMPTIBLE and not self.no_pause

    @property
    def label(self) -> str:
        """What containers and jobs are called."""
        label = _LABELS.get(self.task_type)
        return "generic-task" if label is None else f"{label}-{self.task_id}"


def get_service_address(record: TaskRecord, *, with_token: bool) -> str:
    """The path of what a task serves, below the master's URL; a notebook's token lets one in."""
    address = f"/proxy/{record.task_id}/"
    if record.service is None or record.task_type is not TaskType.NOTEBOOK or not with_token:
        return address
    return f"{address}?token={record.service.secret}"


class TaskRecords:
    """Reads and writes tasks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, record: TaskRecord, tgz: bytes) -> None:
        """Store a new task and its files."""
        row = TaskRow(
            task_id=record.task_id,
            task_type=record.task_type.value,
            job_id=record.job_id,
            owner_id=record.owner_id,
            workspace_id=record.workspace_id,
            description=record.description,
            config=record.config.model_dump_json(context={"reveal": True}),
            resource_pool=record.pool,
            manager=record.manager,
            slots=record.slots,
            priority=record.priority,
            state=record.state.value,
            started_at=record.started_at,
            exit_status="",
            parent_id=record.parent_id,
            forked_from=record.forked_from,
            no_pause=record.no_pause,
            first_run=record.first_run,
        )
        if record.service is not None:
            row.service_port = record.service.port
            row.service_secret = record.service.secret
            row.service_public_key = record.service.public_key
        async with self._database.writing() as session:
            session.add(row)
            await session.flush()
            if tgz:
                session.add(TaskFilesRow(task_id=record.task_id, tgz=tgz))

    async def save(self, record: TaskRecord) -> None:
        """Store how a task is."""
        statement = update(TaskRow).where(TaskRow.task_id == record.task_id)
        async with self._database.writing() as session:
            await session.execute(
                statement.values(
                    state=record.state.value,
                    ended_at=record.ended_at,
                    exit_status=record.exit_status,
                )
            )

    async def save_place(self, record: TaskRecord) -> None:
        """Store a task's place among others: pool, priority, weight."""
        statement = update(TaskRow).where(TaskRow.task_id == record.task_id)
        async with self._database.writing() as session:
            await session.execute(
                statement.values(
                    config=record.config.model_dump_json(context={"reveal": True}),
                    resource_pool=record.pool,
                    manager=record.manager,
                    priority=record.priority,
                )
            )

    async def relocate(self, job_ids: Collection[JobId], workspace_id: int) -> None:
        """Store that the tasks of some jobs are in another workspace now."""
        statement = update(TaskRow).where(TaskRow.job_id.in_(job_ids))
        async with self._database.writing() as session:
            await session.execute(statement.values(workspace_id=workspace_id))

    async def load(self, task_id: str) -> TaskRecord | None:
        """Load one task."""
        async with self._database.reading() as session:
            row = await session.get(TaskRow, task_id)
        return None if row is None else _make_record(row)

    async def load_open(self) -> list[TaskRecord]:
        """Load the tasks that have not ended."""
        return await self._load_where(TaskRow.ended_at.is_(None))

    async def load_recent(self, task_type: TaskType, since: datetime) -> list[TaskRecord]:
        """Load the tasks of a type that have not ended, or after *since*."""
        return await self._load_where(
            TaskRow.task_type == task_type.value,
            or_(TaskRow.ended_at.is_(None), TaskRow.ended_at > since),
        )

    async def load_children(self, task_id: TaskId) -> list[TaskRecord]:
        """Load the tasks that another one started."""
        return await self._load_where(TaskRow.parent_id == task_id)

    async def load_tgz(self, task_id: TaskId) -> bytes:
        """Load the packed files of a task; empty when it has none."""
        statement = select(TaskFilesRow.tgz).where(TaskFilesRow.task_id == task_id)
        async with self._database.reading() as session:
            tgz = await session.scalar(statement)
        return tgz or b""

    async def _load_where(self, *conditions: ColumnElement[bool]) -> list[TaskRecord]:
        statement = select(TaskRow).where(*conditions).order_by(TaskRow.started_at)
        async with self._database.reading() as session:
            rows = (await session.scalars(statement)).all()
        return [_make_record(row) for row in rows]


def _make_record(row: TaskRow) -> TaskRecord:
    return TaskRecord(
        task_id=TaskId(row.task_id),
        task_type=TaskType(row.task_type),
        job_id=JobId(row.job_id),
        owner_id=row.owner_id,
        workspace_id=row.workspace_id,
        description=row.description,
        config=TaskConfig.model_validate_json(row.config),
        pool=row.resource_pool,
        manager=row.manager,
        slots=row.slots,
        priority=row.priority,
        state=TaskState(row.state),
        started_at=row.started_at,
        ended_at=row.ended_at,
        exit_status=row.exit_status,
        parent_id=None if row.parent_id is None else TaskId(row.parent_id),
        forked_from=None if row.forked_from is None else TaskId(row.forked_from),
        no_pause=row.no_pause,
        first_run=row.first_run,
        service=_make_service(row),
    )


def _make_service(row: TaskRow) -> Service | None:
    if row.service_port is None:
        return None
    return Service(
        port=row.service_port,
        secret=row.service_secret or "",
        public_key=row.service_public_key or "",
    )


def pack_files(files: Sequence[TaskFile]) -> bytes:
    """Pack files; none give nothing."""
    return pack(files) if files else b""


def unpack_files(tgz: bytes) -> list[TaskFile]:
    """Undo `pack_files`."""
    return unpack(tgz) if tgz else []
