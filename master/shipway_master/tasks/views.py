"""Tasks, their runs and their jobs as the API shows them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from shipway_master.agents.queue import queue_order
from shipway_master.agents.views import view_container, view_device
from shipway_master.allocations.allocation import Allocation
from shipway_master.allocations.exits import Failure, FailureType
from shipway_master.allocations.life import AllocationState, is_at_least
from shipway_master.allocations.records import AllocationRecord, Share
from shipway_master.cluster.manager import Ordering
from shipway_master.structs import to_struct
from shipway_master.tasks.config import dump_config
from shipway_master.tasks.owners import Owner
from shipway_master.tasks.records import TaskRecord, get_service_address
from shipway_master.tasks.states import TaskState, TaskType
from shipway_proto.determined.command.v1.command_pb2 import Command
from shipway_proto.determined.job.v1 import job_pb2
from shipway_proto.determined.notebook.v1.notebook_pb2 import Notebook
from shipway_proto.determined.shell.v1.shell_pb2 import Shell
from shipway_proto.determined.task.v1 import task_pb2
from shipway_proto.determined.tensorboard.v1.tensorboard_pb2 import Tensorboard

_STATES = {
    AllocationState.PENDING: task_pb2.STATE_QUEUED,
    AllocationState.ASSIGNED: task_pb2.STATE_QUEUED,
    AllocationState.PULLING: task_pb2.STATE_PULLING,
    AllocationState.STARTING: task_pb2.STATE_STARTING,
    AllocationState.RUNNING: task_pb2.STATE_RUNNING,
    AllocationState.WAITING: task_pb2.STATE_WAITING,
    AllocationState.TERMINATING: task_pb2.STATE_TERMINATING,
    AllocationState.TERMINATED: task_pb2.STATE_TERMINATED,
}
_TASK_TYPES = {
    TaskType.COMMAND: task_pb2.TASK_TYPE_COMMAND,
    TaskType.SHELL: task_pb2.TASK_TYPE_SHELL,
    TaskType.NOTEBOOK: task_pb2.TASK_TYPE_NOTEBOOK,
    TaskType.TENSORBOARD: task_pb2.TASK_TYPE_TENSORBOARD,
    TaskType.GENERIC: task_pb2.TASK_TYPE_GENERIC,
    TaskType.TRIAL: task_pb2.TASK_TYPE_TRIAL,
    TaskType.CHECKPOINT_GC: task_pb2.TASK_TYPE_CHECKPOINT_GC,
}
_JOB_TYPES = {
    TaskType.COMMAND: job_pb2.TYPE_COMMAND,
    TaskType.SHELL: job_pb2.TYPE_SHELL,
    TaskType.NOTEBOOK: job_pb2.TYPE_NOTEBOOK,
    TaskType.TENSORBOARD: job_pb2.TYPE_TENSORBOARD,
    TaskType.GENERIC: job_pb2.TYPE_GENERIC,
    TaskType.TRIAL: job_pb2.TYPE_EXPERIMENT,
    TaskType.CHECKPOINT_GC: job_pb2.TYPE_CHECKPOINT_GC,
}
_GENERIC_STATES = {
    TaskState.ACTIVE: task_pb2.GENERIC_TASK_STATE_ACTIVE,
    TaskState.STOPPING_PAUSED: task_pb2.GENERIC_TASK_STATE_STOPPING_PAUSED,
    TaskState.PAUSED: task_pb2.GENERIC_TASK_STATE_PAUSED,
    TaskState.STOPPING_CANCELED: task_pb2.GENERIC_TASK_STATE_STOPPING_CANCELED,
    TaskState.CANCELED: task_pb2.GENERIC_TASK_STATE_CANCELED,
    TaskState.COMPLETED: task_pb2.GENERIC_TASK_STATE_COMPLETED,
    TaskState.ERROR: task_pb2.GENERIC_TASK_STATE_ERROR,
}
_SCHEDULERS = {
    Ordering.PRIORITY: "priority",
    Ordering.FAIR_SHARE: "fair_share",
    Ordering.SLURM: "slurm",
}
_FAILURE_TYPES = {
    FailureType.RESOURCES_FAILED: task_pb2.FAILURE_TYPE_RESOURCES_FAILED,
    FailureType.RESOURCES_ABORTED: task_pb2.FAILURE_TYPE_RESOURCES_ABORTED,
    FailureType.RESOURCES_MISSING: task_pb2.FAILURE_TYPE_RESOURCES_MISSING,
    FailureType.TASK_ABORTED: task_pb2.FAILURE_TYPE_TASK_ABORTED,
    FailureType.TASK_ERROR: task_pb2.FAILURE_TYPE_TASK_ERROR,
    FailureType.AGENT_FAILED: task_pb2.FAILURE_TYPE_AGENT_FAILED,
    FailureType.AGENT_ERROR: task_pb2.FAILURE_TYPE_AGENT_ERROR,
    FailureType.RESTORE_ERROR: task_pb2.FAILURE_TYPE_RESTORE_ERROR,
    FailureType.UNLAUNCHABLE: task_pb2.FAILURE_TYPE_TASK_ERROR,
    FailureType.UNKNOWN: task_pb2.FAILURE_TYPE_UNKNOWN_ERROR,
}


def _stamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def view_allocation(record: AllocationRecord) -> task_pb2.Allocation:
    """Write a run."""
    message = task_pb2.Allocation(
        task_id=record.task_id,
        allocation_id=record.allocation_id,
        state=_STATES[record.state],
        is_ready=record.is_ready,
        slots=record.slots,
    )
    if record.started_at is not None:
        message.start_time = _text(record.started_at)
    if record.ended_at is not None:
        message.end_time = _text(record.ended_at)
    if record.exit_reason is not None:
        message.exit_reason = record.exit_reason
    if record.status_code is not None:
        message.status_code = record.status_code
    return message


def view_task(record: TaskRecord, runs: Sequence[AllocationRecord]) -> task_pb2.Task:
    """Write a task with its runs, newest first."""
    message = task_pb2.Task(
        task_id=record.task_id,
        task_type=_TASK_TYPES[record.task_type],
        allocations=[view_allocation(run) for run in runs],
        start_time=_stamp(record.started_at),
        config=json.dumps(dump_config(record.config)),
    )
    if record.ended_at is not None:
        message.end_time.CopyFrom(_stamp(record.ended_at))
    if record.task_type is TaskType.GENERIC:
        message.task_state = _GENERIC_STATES[record.state]
        message.no_pause = record.no_pause
    if record.parent_id is not None:
        message.parent_id = record.parent_id
    if record.forked_from is not None:
        message.forked_from = record.forked_from
    return message


def view_summary(allocation: Allocation) -> task_pb2.AllocationSummary:
    """Write what a live run has."""
    request = allocation.request
    ordering = allocation.manager.get_ordering(request.pool)
    message = task_pb2.AllocationSummary(
        task_id=request.task_id,
        allocation_id=allocation.id,
        name=allocation.name,
        registered_time=_stamp(request.requested_at),
        resource_pool=request.pool,
        slots_needed=request.slots,
        resources=[_view_share(allocation, share) for share in allocation.record.shares],
        scheduler_type=_SCHEDULERS[ordering],
    )
    if ordering is Ordering.PRIORITY:
        message.priority = request.priority
    return message


def _view_share(allocation: Allocation, share: Share) -> task_pb2.ResourcesSummary:
    assignment = share.assignment
    message = task_pb2.ResourcesSummary(
        resources_id=share.id,
        resources_type="slurm-job" if assignment.agent_id is None else "docker-container",
        allocation_id=allocation.id,
    )
    if assignment.agent_id is None:
        for node in allocation.record.ranks.nodes:
            message.agent_devices[node].SetInParent()
    else:
        message.container_id = share.id
        devices = message.agent_devices[assignment.agent_id]
        devices.devices.extend(view_device(device) for device in assignment.devices)
    if share.native_id or share.addresses:
        message.started.native_resources_id = share.native_id
        for address in share.addresses:
            message.started.addresses.add(
                container_ip=address.container_ip,
                container_port=address.container_port,
                host_ip=address.host_ip,
                host_port=address.host_port,
            )
    if share.is_exited:
        message.exited.SetInParent()
        if share.failure is not None:
            message.exited.failure.CopyFrom(_view_failure(share.failure))
    return message


def _view_failure(failure: Failure) -> task_pb2.ResourcesFailure:
    message = task_pb2.ResourcesFailure(
        failure_type=_FAILURE_TYPES[failure.type], err_msg=failure.message
    )
    if failure.exit_code is not None:
        message.exit_code = failure.exit_code
    return message


def view_command(record: TaskRecord, owner: Owner, run: Allocation | None) -> Command:
    """Write a command; *run* is its live run."""
    message = Command()
    _fill(message, record, owner, run)
    return message


def view_shell(
    record: TaskRecord, owner: Owner, run: Allocation | None, *, with_key: bool
) -> Shell:
    """Write a shell; *with_key* says whether whoever reads it may enter it."""
    message = Shell()
    _fill(message, record, owner, run)
    user = owner.agent_user
    group = {"user": user.user, "uid": user.uid, "group": user.group, "gid": user.gid}
    to_struct(group, message.agent_user_group)
    if record.service is not None and with_key:
        message.private_key = record.service.secret
        message.public_key = record.service.public_key
    shares = [] if run is None else run.record.shares
    for share in shares:
        for address in share.addresses:
            to_struct(asdict(address), message.addresses.add())
    return message


def view_notebook(
    record: TaskRecord, owner: Owner, run: Allocation | None, *, with_token: bool
) -> Notebook:
    """Write a notebook; *with_token* says whether whoever reads it may enter it."""
    message = Notebook(service_address=get_service_address(record, with_token=with_token))
    _fill(message, record, owner, run)
    return message


def view_tensorboard(
    record: TaskRecord,
    owner: Owner,
    run: Allocation | None,
    *,
    experiment_ids: Sequence[int],
    trial_ids: Sequence[int],
) -> Tensorboard:
    """Write a TensorBoard, with the experiments and the single trials that it shows."""
    message = Tensorboard(
        service_address=get_service_address(record, with_token=False),
        experiment_ids=experiment_ids,
        trial_ids=trial_ids,
    )
    _fill(message, record, owner, run)
    return message


def _fill(
    message: Command | Shell | Notebook | Tensorboard,
    record: TaskRecord,
    owner: Owner,
    run: Allocation | None,
) -> None:
    """Write what all of them have."""
    state = task_pb2.STATE_QUEUED
    if record.ended_at is not None:
        state = task_pb2.STATE_TERMINATED
    elif run is not None:
        state = _STATES[run.record.state]
    message.id = record.task_id
    message.description = record.description
    message.state = state
    message.start_time.CopyFrom(_stamp(record.started_at))
    message.display_name = owner.display_name or owner.username
    message.user_id = owner.id
    message.username = owner.username
    message.resource_pool = record.pool
    message.exit_status = record.exit_status
    message.job_id = record.job_id
    message.workspace_id = record.workspace_id
    if run is not None and run.record.shares:
        share = run.record.shares[0]
        if share.assignment.agent_id is not None:
            container = view_container(share.id, share.state, share.assignment.devices)
            message.container.CopyFrom(container)


def view_job(tasks: Sequence[tuple[TaskRecord, Allocation | None]], owner: Owner) -> job_pb2.Job:
    """Write a job, with all of its tasks that live and the runs of these."""
    record, _ = tasks[0]
    return job_pb2.Job(
        summary=view_job_summary([run for _, run in tasks if run is not None]),
        type=_JOB_TYPES[record.task_type],
        submission_time=_stamp(record.started_at),
        username=owner.username,
        user_id=owner.id,
        resource_pool=record.pool,
        is_preemptible=record.is_preemptible,
        priority=record.priority,
        weight=record.config.resources.weight,
        entity_id=record.task_id,
        job_id=record.job_id,
        requested_slots=sum(one.slots for one, _ in tasks),
        allocated_slots=sum(
            one.slots for one, run in tasks if run is not None and _has_resources(run)
        ),
        name=record.description or record.name,
        workspace_id=record.workspace_id,
    )


def view_job_summary(runs: Sequence[Allocation]) -> job_pb2.JobSummary:
    """Write the place of a job in the queue: that of the first of its runs."""
    if any(_has_resources(run) for run in runs):
        return job_pb2.JobSummary(state=job_pb2.STATE_SCHEDULED)
    first = min(runs, key=lambda run: queue_order(run.request), default=None)
    ahead = 0 if first is None else first.manager.get_jobs_ahead(first.id)
    return job_pb2.JobSummary(state=job_pb2.STATE_QUEUED, jobs_ahead=ahead)


def _has_resources(run: Allocation) -> bool:
    """Whether it has its slots; a Slurm job has them when Slurm has started it."""
    if not run.record.shares:
        return False
    on_agent = run.record.shares[0].assignment.agent_id is not None
    return on_agent or is_at_least(run.record.state, AllocationState.PULLING)
