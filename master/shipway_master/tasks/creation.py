"""From a user's request to a task that can be stored and scheduled."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import uuid4

from shipway_master.allocations.ids import JobId, TaskId, make_allocation_id
from shipway_master.cluster.cluster import Cluster
from shipway_master.cluster.manager import PoolNotFound, Request, Unfulfillable
from shipway_master.tasks.config import BadConfig, apply_defaults, load_config_text, parse_config
from shipway_master.tasks.errors import BadTask
from shipway_master.tasks.files import BadFile, TaskFile, check_files
from shipway_master.tasks.model import TaskConfig
from shipway_master.tasks.records import TaskRecord
from shipway_master.tasks.service import make_service
from shipway_master.tasks.states import TaskType
from shipway_master.tasks.workspaces import Terms

_SPREADING = frozenset({TaskType.GENERIC, TaskType.TRIAL})
"""May have slots of several agents."""
_WITH_ENTRYPOINT = frozenset({TaskType.COMMAND, TaskType.GENERIC})
_TITLES = {
    TaskType.COMMAND: "Command",
    TaskType.SHELL: "Shell",
    TaskType.NOTEBOOK: "JupyterLab",
    TaskType.TENSORBOARD: "TensorBoard",
}


class Limits(Protocol):
    """What tasks of a kind may have."""

    def check_task(self, *, slots: int, priority: int | None) -> None:
        """Refuse a task beyond it by `BadTask`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants to have run."""

    task_type: TaskType
    owner_id: int
    terms: Terms
    """Of the workspace that it is to be in."""
    limits: Limits | None = None
    config: Mapping[str, Any] | str = field(repr=False)
    """Data, or YAML text."""
    files: Sequence[TaskFile] = field(default=(), repr=False)
    parent_id: TaskId | None = None
    forked_from: TaskId | None = None
    no_pause: bool = False
    idle_timeout_s: float | None = None
    """Where the configuration says nothing about it; None: it may idle for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A task that could be started."""

    record: TaskRecord
    files: Sequence[TaskFile] = field(repr=False)
    has_room: bool
    """False when the pool is too small at the moment, but may grow."""


def draft_task(wish: Wish, cluster: Cluster, *, ports_in_use: Collection[int] = ()) -> Draft:
    """Check a wish against the cluster as it is.

    Args:
        ports_in_use: Where other tasks serve.

    Raises:
        BadTask: It cannot become a task; the text names what is wrong.
    """
    try:
        config = (
            load_config_text(wish.config)
            if isinstance(wish.config, str)
            else parse_config(wish.config, has_entrypoint=wish.task_type in _WITH_ENTRYPOINT)
        )
        check_files(wish.files)
        slots = config.resources.slots
        pool = wish.terms.choose_pool(config.resources.resource_pool, slots=slots)
        choice = cluster.choose_pool(pool, slots=slots)
        wish.terms.require_pool(choice.pool)
        if wish.limits is not None:
            wish.limits.check_task(slots=slots, priority=config.resources.priority)
        config = apply_defaults(config, cluster.get_defaults(choice), has_files=bool(wish.files))
        if config.idle_timeout is None:
            config = config.model_copy(update={"idle_timeout": wish.idle_timeout_s})
        record = _make_record(wish, config, choice.pool, choice.manager.name)
        if config.resources.priority is None:
            record.priority = choice.manager.get_default_priority(choice.pool)
        has_room = choice.manager.check(make_request(record, run=1))
    except (BadConfig, BadFile, PoolNotFound, Unfulfillable) as error:
        raise BadTask(str(error)) from error
    record.service = make_service(record.task_type, ports_in_use=ports_in_use)
    return Draft(record=record, files=wish.files, has_room=has_room)


def make_request(record: TaskRecord, *, run: int) -> Request:
    """Say what a run of a task needs."""
    config = record.config
    return Request(
        allocation_id=make_allocation_id(record.task_id, run),
        task_id=record.task_id,
        job_id=record.job_id,
        pool=record.pool,
        slots=record.slots,
        priority=record.priority,
        weight=config.resources.weight,
        submitted_at=record.started_at,
        requested_at=datetime.now(UTC),
        is_preemptible=record.is_preemptible,
        is_single_agent=record.task_type not in _SPREADING or config.resources.is_single_node,
        slots_per_node=config.slurm.slots_per_node,
    )


def _make_record(wish: Wish, config: TaskConfig, pool: str, manager: str) -> TaskRecord:
    task_id = TaskId(str(uuid4()))
    description = config.description or config.name
    if not description and wish.task_type in _TITLES:
        description = f"{_TITLES[wish.task_type]} ({task_id[:8]})"
    resources = config.resources.model_copy(update={"resource_pool": pool})
    return TaskRecord(
        task_id=task_id,
        task_type=wish.task_type,
        job_id=JobId(str(uuid4())),
        owner_id=wish.owner_id,
        workspace_id=wish.terms.workspace_id,
        description=description,
        config=config.model_copy(update={"description": description, "resources": resources}),
        pool=pool,
        manager=manager,
        slots=config.resources.slots,
        priority=config.resources.priority or 0,
        started_at=datetime.now(UTC),
        parent_id=wish.parent_id,
        forked_from=wish.forked_from,
        no_pause=wish.no_pause,
    )
