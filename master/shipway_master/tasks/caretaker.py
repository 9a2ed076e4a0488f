"""Whoever decides about tasks that belong to something larger, as trials belong to an experiment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from shipway_master.allocations.exits import Outcome
from shipway_master.allocations.ids import AllocationId
from shipway_master.tasks.launch import AgentUser
from shipway_master.tasks.records import TaskRecord
from shipway_master.tasks.service import Equipment
from shipway_master.tasks.states import Next, after_run


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimits:
    """What a task's runs must respect beside its configuration."""

    max_slots: int | None = None
    """So many slots all tasks of its job may have together."""
    excluded_nodes: tuple[str, ...] = ()
    """Agents or Slurm nodes that it may not run on."""


class OneRun:
    """What caretakers say of tasks that have one run, unless that was lost before it began."""

    def get_limits(self, record: TaskRecord) -> RunLimits:
        """Nothing but the configuration limits its runs."""
        return RunLimits()

    async def begin_run(self, record: TaskRecord, run: int) -> None:
        """Nothing more is to be stored."""

    async def judge(
        self, record: TaskRecord, run: int, outcome: Outcome, *, lost_runs: int
    ) -> Next:
        """Say what the end of a run makes of the task."""
        return after_run(record.task_type, record.state, outcome, lost_runs=lost_runs)


class Caretaker(Protocol):
    """Decides about the tasks of one type.

    All but `ended` are called under the task's lock: they must not wait for anything that may
    wait for that.
    """

    def get_limits(self, record: TaskRecord) -> RunLimits:
        """What the task's next run must respect."""
        ...

    async def begin_run(self, record: TaskRecord, run: int) -> None:
        """Hear that a run is about to be stored; its number is one more than the last one's."""
        ...

    async def equip(
        self, record: TaskRecord, allocation_id: AllocationId, user: AgentUser
    ) -> Equipment:
        """Say how a run is started."""
        ...

    async def load_context(self, record: TaskRecord) -> bytes:
        """Load the packed files that the task's containers fetch; empty when there are none."""
        ...

    async def judge(
        self, record: TaskRecord, run: int, outcome: Outcome, *, lost_runs: int
    ) -> Next:
        """Say what the end of a run makes of the task.

        Asked again, after a crash of the master, it answers the same.

        Args:
            lost_runs: How many runs in a row, this one included, were lost before they ran.
        """
        ...

    def ended(self, record: TaskRecord) -> None:
        """Hear that the task has come to its end; may come twice. Must not wait for anything."""
        ...
