"""All tasks: started, ended, paused, and started again when a run of theirs is over."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from weakref import WeakValueDictionary

from shipway_common.backoff import backoff_delays_s
from shipway_master.allocations.allocation import Allocation
from shipway_master.allocations.exits import Ending, Outcome
from shipway_master.allocations.ids import JobId, TaskId, get_run, make_allocation_id
from shipway_master.allocations.live import Allocations
from shipway_master.allocations.records import AllocationRecord
from shipway_master.allocations.surroundings import Run
from shipway_master.auth import Authenticator
from shipway_master.cluster.cluster import Cluster
from shipway_master.cluster.manager import Request, ResourceManager, Unfulfillable
from shipway_master.errors import MasterError, Unavailable
from shipway_master.logbook import LogBook
from shipway_master.tasks.caretaker import Caretaker
from shipway_master.tasks.creation import Draft, Wish, draft_task, make_request
from shipway_master.tasks.errors import BadTask, TaskInWrongState, TaskNotFound
from shipway_master.tasks.launch import Launch
from shipway_master.tasks.launching import Launching
from shipway_master.tasks.owners import Owners
from shipway_master.tasks.records import TaskRecord, TaskRecords, pack_files
from shipway_master.tasks.states import (
    Next,
    TaskState,
    TaskType,
    WrongState,
    after_run,
    cancel,
    pause,
    unpause,
)

log = logging.getLogger(__name__)

LISTED_AFTER_END = timedelta(hours=24)
"""So long a task that has ended is still listed."""


class Tasks:
    """The tasks of this master; what is decided about one is decided under its lock."""

    def __init__(
        self,
        *,
        records: TaskRecords,
        allocations: Allocations,
        cluster: Cluster,
        owners: Owners,
        authenticator: Authenticator,
        logbook: LogBook,
        uses_tls: bool,
    ) -> None:
        self.records = records
        self.owners = owners
        self._allocations = allocations
        self._cluster = cluster
        self._logbook = logbook
        self._caretakers: dict[TaskType, Caretaker] = {}
        self._launching = Launching(
            records=records,
            owners=owners,
            cluster=cluster,
            authenticator=authenticator,
            caretakers=self._caretakers,
            uses_tls=uses_tls,
        )
        self._open: dict[TaskId, TaskRecord] = {}
        self._runs: dict[TaskId, Allocation] = {}
        self._locks: WeakValueDictionary[TaskId, asyncio.Lock] = WeakValueDictionary()
        self._lost_runs: Counter[TaskId] = Counter()
        allocations.connect(build_launch=self._build_launch, on_end=self._run_ended)

    def entrust(self, task_type: TaskType, caretaker: Caretaker) -> None:
        """Say who decides about the tasks of a type, before any is started or restored."""
        self._caretakers[task_type] = caretaker

    # looking

    async def get(self, task_id: str, *, kind: str = "task") -> TaskRecord:
        """The task of that id, live or not.

        Raises:
            TaskNotFound: There is none.
        """
        record = self._open.get(TaskId(task_id)) or await self.records.load(task_id)
        if record is None:
            raise TaskNotFound(kind, task_id)
        return record

    async def list_recent(self, task_type: TaskType) -> list[TaskRecord]:
        """The tasks of a type that live, or ended not long ago, oldest first."""
        return await self.records.load_recent(task_type, datetime.now(UTC) - LISTED_AFTER_END)

    def list_open(self) -> list[TaskRecord]:
        """The tasks that live, oldest first."""
        return list(self._open.values())

    def find_by_job(self, job_id: str) -> TaskRecord:
        """The live task of a job.

        Raises:
            TaskNotFound: There is none.
        """
        for record in self._open.values():
            if record.job_id == job_id:
                return record
        raise TaskNotFound("job", job_id)

    def lock(self, task_id: TaskId) -> asyncio.Lock:
        """What must be held to decide something about a task; gone when nobody holds it."""
        lock = self._locks.get(task_id)
        if lock is None:
            lock = self._locks[task_id] = asyncio.Lock()
        return lock

    def find_run(self, task_id: TaskId) -> Allocation | None:
        """The live run of a task."""
        return self._runs.get(task_id)

    # starting

    def draft(self, wish: Wish) -> Draft:
        """Check whether a wish could become a task.

        Raises:
            BadTask: It could not.
        """
        services = (one.service for one in self._open.values())
        in_use = {service.port for service in services if service is not None}
        return draft_task(wish, self._cluster, ports_in_use=in_use)

    async def create(self, wish: Wish) -> Draft:
        """Start a task.

        Raises:
            BadTask: It cannot become one.
            TaskNotFound: Its parent does not exist.
        """
        if wish.parent_id is not None:
            await self.get(wish.parent_id)
        draft = self.draft(wish)
        await self.start(draft.record, await asyncio.to_thread(pack_files, draft.files))
        return draft

    async def start(self, record: TaskRecord, tgz: bytes = b"") -> None:
        """Store a new task and ask for its first run."""
        async with self.lock(record.task_id):  # who finds it in the database waits for its start
            await self.records.add(record, tgz)
            self._open[record.task_id] = record
            await self._start_first_run(record)
        log.info(
            "task created",
            extra={
                "task_id": record.task_id,
                "task_type": record.task_type.value,
                "pool": record.pool,
                "slots": record.slots,
            },
        )

    async def _start_first_run(self, record: TaskRecord) -> None:
        # Who takes care of tasks does not ask again, unlike people.
        is_cared_for = record.task_type in self._caretakers
        start_run = self._surely_start_run if is_cared_for else self._start_run
        try:
            await start_run(record, run=record.first_run)
        except MasterError as error:
            await self._end(record, TaskState.ERROR, f"it could not be scheduled: {error}")
            raise

    async def load_context(self, record: TaskRecord) -> bytes:
        """Load the packed files that a task's containers find; empty when there are none."""
        caretaker = self._caretakers.get(record.task_type)
        if caretaker is not None:
            return await caretaker.load_context(record)
        return await self.records.load_tgz(record.task_id)

    async def restore(self) -> None:
        """Take up all tasks that lived when the master stopped."""
        open_runs = {one.task_id: one for one in await self._allocations.records.load_open()}
        for record in await self.records.load_open():
            self._open[record.task_id] = record
            run = open_runs.pop(record.task_id, None)
            if run is None and record.state is not TaskState.PAUSED:
                # A run that ended is there when the master stopped before it had stored what
                # follows from that. Its end is taken up again: starting anew would repeat work.
                run = await self._allocations.records.find_newest(record.task_id)
            if run is not None:
                await self._restore_run(record, run)
            elif record.state is not TaskState.PAUSED:
                await self._go_on_without_run(record)

    async def _restore_run(self, record: TaskRecord, run: AllocationRecord) -> None:
        manager = self._cluster.find_manager(record.manager)
        if manager is None:
            log.error(
                "the resource manager of a task is not in the settings any more",
                extra={"task_id": record.task_id, "manager": record.manager},
            )
            run.ended_at = datetime.now(UTC)
            run.exit_reason = f"resource manager {record.manager!r} is not configured any more"
            await self._allocations.records.save(run)
            await self._end(record, TaskState.ERROR, run.exit_reason)
            return
        allocation = self._adopt(record, run, manager)
        await allocation.restore()

    async def _go_on_without_run(self, record: TaskRecord) -> None:
        """Nothing runs, and nothing that ran is to be taken into account."""
        if record.state is TaskState.STOPPING_PAUSED:
            record.state = TaskState.PAUSED
            await self.records.save(record)
        elif record.state is TaskState.STOPPING_CANCELED:
            await self._end(record, TaskState.CANCELED, "killed")
        else:
            earlier = await self._allocations.records.load_of_tasks([record.task_id])
            last = max((one.run for one in earlier), default=record.first_run - 1)
            await self._surely_start_run(record, run=last + 1)

    async def _start_run(self, record: TaskRecord, *, run: int) -> None:
        manager = self._cluster.find_manager(record.manager)
        if manager is None:
            await self._end(
                record,
                TaskState.ERROR,
                f"resource manager {record.manager!r} is not configured any more",
            )
            return
        caretaker = self._caretakers.get(record.task_type)
        if caretaker is not None:
            await caretaker.begin_run(record, run)
        request = self._make_request(record, run)
        if request.excluded_nodes:
            try:
                manager.check(request)
            except Unfulfillable as error:
                await self._end(record, TaskState.ERROR, str(error))
                return
        stored = AllocationRecord(
            allocation_id=make_allocation_id(record.task_id, run),
            task_id=record.task_id,
            run=run,
            slots=record.slots,
            requested_at=request.requested_at,
        )
        await self._allocations.records.add(stored)
        allocation = self._adopt(record, stored, manager)
        await allocation.schedule()

    def _adopt(
        self, record: TaskRecord, stored: AllocationRecord, manager: ResourceManager
    ) -> Allocation:
        allocation = self._allocations.adopt(
            stored,
            request=self._make_request(record, stored.run),
            manager=manager,
            name=record.name,
            preemption_s=record.config.preemption_timeout,
        )
        self._runs[record.task_id] = allocation
        return allocation

    def _make_request(self, record: TaskRecord, run: int) -> Request:
        request = make_request(record, run=run)
        caretaker = self._caretakers.get(record.task_type)
        if caretaker is None:
            return request
        limits = caretaker.get_limits(record)
        return replace(request, max_slots=limits.max_slots, excluded_nodes=limits.excluded_nodes)

    async def _build_launch(self, allocation: Run) -> Launch:
        record = await self.get(allocation.request.task_id)
        return await self._launching.build(record, allocation)

    def renew_limits(self, job_id: JobId) -> None:
        """Hear that the caretaker of a job's tasks has changed what their runs must respect."""
        for record in self._open.values():
            run = self._runs.get(record.task_id)
            caretaker = self._caretakers.get(record.task_type)
            if record.job_id == job_id and run is not None and caretaker is not None:
                limits = caretaker.get_limits(record)
                run.request = replace(
                    run.request, max_slots=limits.max_slots, excluded_nodes=limits.excluded_nodes
                )
                run.manager.reorder()

    async def relocate(self, job_ids: Collection[JobId], workspace_id: int) -> None:
        """Hear that all tasks of some jobs are in another workspace now; next runs are as it says."""
        for record in self._open.values():
            if record.job_id in job_ids:
                record.workspace_id = workspace_id
        await self.records.relocate(job_ids, workspace_id)

    # ending

    async def kill(self, record: TaskRecord, *, reason: str) -> None:
        """End a task at once, with all tasks that it started. Repeating changes nothing."""
        for child in await self.records.load_children(record.task_id):
            await self.kill(self._open.get(child.task_id, child), reason="its parent was killed")
        if record.state.is_final:
            return
        async with self.lock(record.task_id):
            live = self._open.get(record.task_id)
            if live is None:  # it has ended while others were killed before it
                return
            record, run = live, self._runs.get(record.task_id)
            state = cancel(record.state, has_run=run is not None)
            if state is TaskState.CANCELED and not record.state.is_final:
                await self._end(record, state, "killed")
            else:
                await self._wish(record, state)
        if run is not None:
            await run.kill(reason)

    async def stop(self, record: TaskRecord, *, reason: str) -> None:
        """Have a task leave in good order, for ever. Repeating gives the signal again."""
        async with self.lock(record.task_id):
            run = self._runs.get(record.task_id)
            state = cancel(record.state, has_run=run is not None)
            if state is TaskState.CANCELED and not record.state.is_final:
                await self._end(record, state, reason)
            else:
                await self._wish(record, state)
        if run is not None:
            await run.stop(reason)

    async def pause(self, record: TaskRecord) -> None:
        """Have a task leave its resources until it is unpaused.

        Raises:
            TaskInWrongState: It cannot be paused.
        """
        async with self.lock(record.task_id):
            try:
                state = pause(record.state, no_pause=record.no_pause)
            except WrongState as error:
                raise TaskInWrongState(str(error)) from error
            run = self._runs.get(record.task_id)
            if run is None and state is TaskState.STOPPING_PAUSED:
                state = TaskState.PAUSED
            await self._wish(record, state)
        if run is not None and not run.is_leaving:
            await run.stop("user requested pause")

    async def unpause(self, record: TaskRecord) -> None:
        """Start a paused task again.

        Raises:
            TaskInWrongState: It is not paused.
        """
        async with self.lock(record.task_id):
            try:
                state = unpause(record.state, may_be_leaving=record.task_type in self._caretakers)
            except WrongState as error:
                raise TaskInWrongState(str(error)) from error
            await self._wish(record, state)
            if record.task_id not in self._runs:
                await self._go_on_without_run(record)

    async def find_root(self, record: TaskRecord) -> TaskRecord:
        """The task at the top of the tree that a task belongs to."""
        seen = {record.task_id}
        while record.parent_id is not None and record.parent_id not in seen:
            seen.add(record.parent_id)
            parent = self._open.get(record.parent_id) or await self.records.load(record.parent_id)
            if parent is None:
                break
            record = parent
        return record

    async def _run_ended(self, allocation: Run, outcome: Outcome) -> None:
        task_id = allocation.request.task_id
        async with self.lock(task_id):
            record = self._open.get(task_id)
            if self._runs.get(task_id) is allocation:
                del self._runs[task_id]
            if record is None:
                return
            never_ran = outcome.ending is Ending.LOST and allocation.record.started_at is None
            self._lost_runs[task_id] = self._lost_runs[task_id] + 1 if never_ran else 0
            following = await self._judge(record, allocation, outcome)
            if following.note:
                await allocation.say(following.note)
            if following.runs_again:
                run = get_run(allocation.record.allocation_id) + 1
                await self._surely_start_run(record, run=run)
            elif following.state.is_final:
                await self._end(record, following.state, following.exit_status)
            else:
                record.state = following.state
                await self._save(record)

    async def _judge(self, record: TaskRecord, allocation: Run, outcome: Outcome) -> Next:
        lost_runs = self._lost_runs[record.task_id]
        caretaker = self._caretakers.get(record.task_type)
        if caretaker is None:
            return after_run(record.task_type, record.state, outcome, lost_runs=lost_runs)
        run = get_run(allocation.record.allocation_id)
        for delay_s in backoff_delays_s(limit_s=10.0):
            try:
                return await caretaker.judge(record, run, outcome, lost_runs=lost_runs)
            except Unavailable as error:
                _complain("the end of a run cannot be stored", record, error)
                await asyncio.sleep(delay_s)
        raise AssertionError("the delays have no end")

    async def _surely_start_run(self, record: TaskRecord, *, run: int) -> None:
        """Start a run that nobody will ask for again; a full disk is waited for."""
        for delay_s in backoff_delays_s(limit_s=10.0):
            try:
                await self._start_run(record, run=run)
                return
            except Unavailable as error:
                _complain("a run of a task cannot be stored", record, error)
                await asyncio.sleep(delay_s)

    async def _end(self, record: TaskRecord, state: TaskState, exit_status: str) -> None:
        record.state, record.exit_status = state, exit_status
        record.ended_at = datetime.now(UTC)
        await self._save(record)
        self._open.pop(record.task_id, None)
        self._lost_runs.pop(record.task_id, None)
        self._logbook.announce_end(record.task_id)
        caretaker = self._caretakers.get(record.task_type)
        if caretaker is not None:
            caretaker.ended(record)
        log.info(
            "task ended",
            extra={"task_id": record.task_id, "state": state.value, "exit_status": exit_status},
        )

    async def _wish(self, record: TaskRecord, state: TaskState) -> None:
        """Store what is wanted of a task; it stays as it was if that cannot be."""
        if state is not record.state:
            await self.records.save(replace(record, state=state))
            record.state = state

    async def _save(self, record: TaskRecord) -> None:
        """Store what has happened already; a full disk is waited for."""
        for delay_s in backoff_delays_s(limit_s=10.0):
            try:
                await self.records.save(record)
                return
            except Unavailable as error:
                _complain("a task cannot be stored", record, error)
                await asyncio.sleep(delay_s)


def _complain(what: str, record: TaskRecord, error: Unavailable) -> None:
    log.error("%s; trying again", what, extra={"task_id": record.task_id, "error": str(error)})


def require_generic(record: TaskRecord) -> TaskRecord:
    """Refuse tasks of another type where only generic ones have the ability.

    Raises:
        BadTask: It is a command.
    """
    if record.task_type is not TaskType.GENERIC:
        raise BadTask(f"task {record.task_id} is a {record.task_type.lower()}, not a generic task")
    return record
