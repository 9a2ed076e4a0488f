"""Who decides about TensorBoards: each has one run, unless that was lost before it began."""

from __future__ import annotations

from shipway_master.allocations.ids import AllocationId
from shipway_master.tasks.caretaker import OneRun
from shipway_master.tasks.launch import AgentUser
from shipway_master.tasks.records import TaskRecord, TaskRecords
from shipway_master.tasks.service import Equipment
from shipway_master.tensorboards.equipment import equip_tensorboard
from shipway_master.tensorboards.records import TensorboardRecords


class TensorboardCaretaker(OneRun):
    """Starts TensorBoards with what they show."""

    def __init__(self, boards: TensorboardRecords, tasks: TaskRecords) -> None:
        self._boards, self._tasks = boards, tasks

    async def equip(
        self, record: TaskRecord, allocation_id: AllocationId, user: AgentUser
    ) -> Equipment:
        """Say how a run is started."""
        boards = await self._boards.load([record.task_id])
        assert record.service is not None
        return equip_tensorboard(boards[record.task_id], record.service, user, record.config)

    async def load_context(self, record: TaskRecord) -> bytes:
        """Load the files that the user sent."""
        return await self._tasks.load_tgz(record.task_id)

    def ended(self, record: TaskRecord) -> None:
        """Nobody waits for it."""
