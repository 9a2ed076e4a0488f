"""Who decides about TensorBoards: each has one run, unless that was lost before it began."""

from __future__ import annotations

from shipway_master.allocations.exits import Outcome
from shipway_master.allocations.ids import AllocationId
from shipway_master.tasks.caretaker import RunLimits
from shipway_master.tasks.launch import AgentUser
from shipway_master.tasks.records import TaskRecord, TaskRecords
from shipway_master.tasks.service import Equipment
from shipway_master.tasks.states import Next, after_run
from shipway_master.tensorboards.equipment import equip_tensorboard
from shipway_master.tensorboards.records import TensorboardRecords


class TensorboardCaretaker:
    """Starts TensorBoards with what they show."""

    def __init__(self, boards: TensorboardRecords, tasks: TaskRecords) -> None:
        self._boards, self._tasks = boards, tasks

    def get_limits(self, record: TaskRecord) -> RunLimits:
        """Nothing but the configuration limits its runs."""
        return RunLimits()

    async def begin_run(self, record: TaskRecord, run: int) -> None:
        """Nothing more is to be stored."""

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

    async def judge(
        self, record: TaskRecord, run: int, outcome: Outcome, *, lost_runs: int
    ) -> Next:
        """Say what the end of a run makes of the task."""
        return after_run(record.task_type, record.state, outcome, lost_runs=lost_runs)

    def ended(self, record: TaskRecord) -> None:
        """Nobody waits for it."""
