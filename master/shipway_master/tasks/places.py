"""The places of tasks in the queues: changed while they wait, or run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shipway_master.cluster.cluster import Cluster
from shipway_master.cluster.manager import Ordering, PoolChoice, PoolNotFound, Unfulfillable
from shipway_master.errors import MasterError
from shipway_master.policies.model import Workload
from shipway_master.policies.records import PolicyRecords
from shipway_master.tasks.creation import make_request
from shipway_master.tasks.errors import BadTask, TaskInWrongState
from shipway_master.tasks.records import TaskRecord
from shipway_master.tasks.states import TaskType
from shipway_master.tasks.tasks import Tasks
from shipway_master.tasks.workspaces import Workspaces

_PRIORITIES = range(1, 100)
_WITHOUT_POLICIES = frozenset({TaskType.GENERIC, TaskType.TRIAL, TaskType.CHECKPOINT_GC})
"""Those of experiments hold for these as a whole."""


class Places:
    """Changes priorities, weights and pools of tasks."""

    def __init__(
        self, tasks: Tasks, cluster: Cluster, workspaces: Workspaces, policies: PolicyRecords
    ) -> None:
        self._tasks, self._cluster, self._workspaces = tasks, cluster, workspaces
        self._policies = policies

    async def set_priority(self, record: TaskRecord, priority: int) -> None:
        """Serve a task before or after others of its pool.

        Raises:
            BadTask: It is no priority, or a policy does not allow it.
            TaskInWrongState: The task has ended, or its pool knows no priorities.
        """
        if priority not in _PRIORITIES:
            raise BadTask(f"priority must be between 1 and 99, not {priority}")
        self._require(record, Ordering.PRIORITY, "priority")
        if record.task_type not in _WITHOUT_POLICIES:
            rules = await self._policies.load_rules(record.workspace_id, Workload.NTSC)
            rules.check_task(slots=0, priority=priority)
        async with self._tasks.lock(record.task_id):
            record.priority = priority
            await self._save(record, priority=priority)

    async def set_weight(self, record: TaskRecord, weight: float) -> None:
        """Give a task a larger or smaller share of its pool.

        Raises:
            BadTask: It is no weight.
            TaskInWrongState: The task has ended, or its pool knows no weights.
        """
        if not 0 < weight < float("inf"):
            raise BadTask(f"weight must be more than 0, not {weight}")
        self._require(record, Ordering.FAIR_SHARE, "weight")
        async with self._tasks.lock(record.task_id):
            await self._save(record, weight=weight)

    async def find_pool(self, workspace_id: int, pool: str, *, slots: int) -> PoolChoice:
        """The pool of that name, in which tasks of a workspace may be.

        Raises:
            BadTask: There is no such pool, or it is not for the workspace.
        """
        terms = await self._workspaces.load_terms(workspace_id, is_new=False)
        try:
            choice = self._cluster.choose_pool(pool, slots=slots)
        except PoolNotFound as error:
            raise BadTask(str(error)) from error
        terms.require_pool(choice.pool)
        return choice

    async def move(self, record: TaskRecord, pool: str) -> None:
        """Let a task wait in another pool.

        Raises:
            BadTask: There is no such pool, it is not for the task's workspace, or it could never
                hold the task.
            TaskInWrongState: The task has ended, or does not wait any more.
        """
        _require_open(record)
        choice = await self.find_pool(record.workspace_id, pool, slots=record.slots)
        async with self._tasks.lock(record.task_id):
            try:
                run = self._tasks.find_run(record.task_id)
                request = replace(make_request(record, run=1), pool=choice.pool)
                choice.manager.check(request)
            except Unfulfillable as error:
                raise BadTask(str(error)) from error
            if run is not None and not run.manager.take_back(run.id):
                raise TaskInWrongState(
                    f"task {record.task_id} does not wait in pool {record.pool} any more, or waits "
                    "in Slurm's own queue: only what waits for an agent can be moved"
                )
            before = record.pool, record.manager
            record.pool, record.manager = choice.pool, choice.manager.name
            try:
                await self._save(record, resource_pool=choice.pool)
            except MasterError:
                record.pool, record.manager = before
                if run is not None:
                    run.manager.submit(run)
                raise
            if run is not None:
                run.manager = choice.manager
                run.request = replace(run.request, pool=choice.pool)
                run.manager.submit(run)

    def _require(self, record: TaskRecord, ordering: Ordering, what: str) -> None:
        _require_open(record)
        manager = self._cluster.find_manager(record.manager)
        found = None if manager is None else manager.get_ordering(record.pool)
        if found is not ordering:
            by = "a resource manager that is gone" if found is None else f"{found.value}"
            raise TaskInWrongState(
                f"the tasks of pool {record.pool} are served by {by}, where a {what} means nothing"
            )

    async def _save(self, record: TaskRecord, **resources: Any) -> None:
        """Store what has changed, in the configuration too, and have the queue looked at again."""
        changed = record.config.resources.model_copy(update=resources)
        record.config = record.config.model_copy(update={"resources": changed})
        await self._tasks.records.save_place(record)
        run = self._tasks.find_run(record.task_id)
        if run is not None:
            run.request = replace(run.request, priority=record.priority, weight=changed.weight)
            run.manager.reorder()


def _require_open(record: TaskRecord) -> None:
    if record.state.is_final:
        raise TaskInWrongState(f"task {record.task_id} has ended")
