"""A trial as a task: what of the experiment's configuration its containers are made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from shipway_master.experiments.records import ExperimentRecord, TrialRecord
from shipway_master.tasks.model import BindMount, Environment, Resources, SlurmOptions, TaskConfig
from shipway_master.tasks.records import TaskRecord
from shipway_master.tasks.states import TaskType

SHARED_FS_MOUNT = "/determined_shared_fs"
"""Where the harness expects the shared folder for checkpoints. Fact: task-environment.md 5."""


def make_task(experiment: ExperimentRecord, trial: TrialRecord) -> TaskRecord:
    """Make the task of a trial."""
    config = make_task_config(experiment.config, priority=experiment.priority)
    return TaskRecord(
        task_id=trial.task_id,
        task_type=TaskType.TRIAL,
        job_id=experiment.job_id,
        owner_id=experiment.owner_id,
        workspace_id=experiment.workspace_id,
        description=f"Trial {trial.id} (Experiment {experiment.id})",
        config=config.model_copy(
            update={
                "resources": config.resources.model_copy(update={"resource_pool": experiment.pool})
            }
        ),
        pool=experiment.pool,
        manager=experiment.manager,
        slots=experiment.slots_per_trial,
        priority=experiment.priority,
        started_at=trial.started_at,
        first_run=trial.run + 1,
    )


def make_task_config(config: Mapping[str, Any], *, priority: int | None = None) -> TaskConfig:
    """Make the configuration of a trial's task from its experiment's, whose defaults are applied.

    Args:
        priority: Its place in the queue; None leaves the experiment's.
    """
    resources = dict(config.get("resources") or {})
    resources["slots"] = resources.pop("slots_per_trial", 1)
    if priority is not None:
        resources["priority"] = priority
    entrypoint = config.get("entrypoint") or ()
    known = {
        "description": config.get("description") or "",
        "entrypoint": entrypoint,
        "environment": _known(Environment, config.get("environment")),
        "resources": _known(Resources, resources),
        "bind_mounts": [*(config.get("bind_mounts") or ()), *_list_storage_mounts(config)],
        "slurm": _known(SlurmOptions, config.get("slurm")),
        "debug": bool(config.get("debug")),
        "preemption_timeout": config.get("preemption_timeout"),
    }
    return TaskConfig.model_validate(known)


def _known(model: type[Any], value: object) -> dict[str, Any]:
    """The part of a section that tasks have, too."""
    section = cast("Mapping[str, Any]", value or {})
    return {
        key: item for key, item in section.items() if key in model.model_fields and item is not None
    }


def _list_storage_mounts(config: Mapping[str, Any]) -> list[BindMount]:
    storage: Mapping[str, Any] = config.get("checkpoint_storage") or {}
    if storage.get("type") != "shared_fs":
        return []
    mount = BindMount(
        host_path=storage["host_path"],
        container_path=SHARED_FS_MOUNT,
        propagation=storage.get("propagation") or "rprivate",
    )
    return [mount]
