"""Experiments, trials and runs as the API writes them, from their rows and what stands around."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from google.protobuf.timestamp_pb2 import Timestamp

from shipway_master.experiments.config import mask_secrets, mask_text
from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.structs import to_struct
from shipway_proto.determined.experiment.v1 import experiment_pb2
from shipway_proto.determined.experiment.v1.experiment_pb2 import Experiment
from shipway_proto.determined.run.v1.run_pb2 import FlatRun
from shipway_proto.determined.trial.v1 import trial_pb2
from shipway_proto.determined.trial.v1.trial_pb2 import CheckpointWorkload, MetricsWorkload, Trial

_LONGEST_S = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The project of an experiment, and its workspace."""

    project_id: int
    project_name: str
    project_key: str
    project_owner_id: int
    workspace_id: int
    workspace_name: str
    is_archived: bool
    """Whether one of the two is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AroundExperiment:
    """What an experiment's message says that its row does not."""

    state: str
    """As it is shown."""
    username: str
    display_name: str
    place: Place
    trial_ids: Sequence[int] = ()
    checkpoint_count: int = 0
    checkpoint_bytes: int = 0
    model_definition_bytes: int = 0
    best_trial_metric: float | None = None
    external_trial_id: str | None = None
    shows_secrets: bool = False
    """Whether the reader may see the configuration as it was sent with the secrets in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AroundTrial:
    """What a trial's message says that its row does not."""

    state: str
    """As it is shown."""
    task_ids: Sequence[str] = ()
    """Oldest first."""
    wall_clock_s: float = 0
    log_retention_days: int | None = None
    """What was said for it, or for its experiment."""
    best_validation: MetricsWorkload | None = None
    latest_validation: MetricsWorkload | None = None
    best_checkpoint: CheckpointWorkload | None = None


def view_experiment(
    row: ExperimentRow, around: AroundExperiment, *, shows_best_trial: bool = True
) -> Experiment:
    """Write an experiment; *shows_best_trial* says whether the fields about its best trial too."""
    config = mask_secrets(read_config(row))
    searcher = get_part(config, "searcher")
    place = around.place
    message = Experiment(
        id=row.id,
        description=row.description,
        labels=row.labels,
        start_time=stamp(row.started_at),
        end_time=None if row.ended_at is None else stamp(row.ended_at),
        state=experiment_pb2.State.Value(f"STATE_{around.state}"),
        archived=row.archived,
        num_trials=len(around.trial_ids),
        trial_ids=around.trial_ids,
        display_name=around.display_name or around.username,
        user_id=row.owner_id,
        username=around.username,
        resource_pool=row.resource_pool,
        searcher_type=str(searcher.get("name", "")),
        searcher_metric=str(searcher.get("metric") or ""),
        hyperparameters=to_struct(get_part(config, "hyperparameters")),
        name=row.name,
        notes=row.notes,
        job_id=row.job_id,
        project_id=row.project_id,
        project_name=place.project_name,
        workspace_id=place.workspace_id,
        workspace_name=place.workspace_name,
        parent_archived=place.is_archived,
        config=to_struct(config),
        original_config=row.original_config
        if around.shows_secrets
        else mask_text(row.original_config),
        project_owner_id=place.project_owner_id,
        checkpoint_size=around.checkpoint_bytes,
        checkpoint_count=around.checkpoint_count,
        unmanaged=row.unmanaged,
        duration=_duration_s(row),
        external_experiment_id=row.external_id,
        external_trial_id=around.external_trial_id,
        model_definition_size=around.model_definition_bytes,
    )
    if row.parent_id is not None:
        message.forked_from.value = row.parent_id
    if row.progress is not None:
        message.progress.value = row.progress
    if shows_best_trial and row.best_trial_id is not None:
        message.best_trial_id = row.best_trial_id
        if around.best_trial_metric is not None:
            message.best_trial_searcher_metric = around.best_trial_metric
    data_source = get_part(get_part(config, "integrations"), "pachyderm")
    if data_source:
        to_struct(data_source, message.pachyderm_integration)
    return message


def view_trial(row: TrialRow, around: AroundTrial) -> Trial:
    """Write a trial."""
    message = Trial(
        id=row.id,
        experiment_id=row.experiment_id,
        start_time=stamp(row.started_at),
        end_time=None if row.ended_at is None else stamp(row.ended_at),
        state=trial_pb2.State.Value(f"STATE_{around.state}"),
        restarts=row.restarts,
        hparams=to_struct(row.hparams),
        total_batches_processed=row.total_batches,
        best_validation=around.best_validation,
        latest_validation=around.latest_validation,
        best_checkpoint=around.best_checkpoint,
        runner_state=row.runner_state,
        wall_clock_time=around.wall_clock_s,
        warm_start_checkpoint_uuid=row.source_checkpoint or "",
        task_id=around.task_ids[-1] if around.task_ids else "",
        task_ids=around.task_ids,
        total_checkpoint_size=row.checkpoint_bytes,
        checkpoint_count=row.checkpoint_count,
        summary_metrics=to_struct(row.summary_metrics),
        log_retention_days=around.log_retention_days,
        log_policy_matched=row.log_signal,
    )
    if row.searcher_metric is not None:
        message.searcher_metric_value = row.searcher_metric
    if row.run_metadata is not None:
        to_struct(row.run_metadata, message.metadata)
        message.metadata.SetInParent()
    return message


def view_run(row: TrialRow, experiment: ExperimentRow, *, state: str, place: Place) -> FlatRun:
    """Write a trial as a run, which shows of its experiment what tables need."""
    config = read_config(experiment)
    searcher = get_part(config, "searcher")
    message = FlatRun(
        id=row.id,
        start_time=stamp(row.started_at),
        end_time=None if row.ended_at is None else stamp(row.ended_at),
        state=trial_pb2.State.Value(f"STATE_{state}"),
        labels=experiment.labels,
        checkpoint_size=row.checkpoint_bytes,
        checkpoint_count=row.checkpoint_count,
        searcher_metric_value=row.searcher_metric,
        external_run_id=row.external_id,
        hyperparameters=to_struct(row.hparams),
        summary_metrics=to_struct(row.summary_metrics),
        user_id=experiment.owner_id,
        duration=_duration_s(row),
        project_id=row.project_id,
        project_name=place.project_name,
        workspace_id=place.workspace_id,
        workspace_name=place.workspace_name,
        parent_archived=place.is_archived,
        archived=row.archived,
        local_id=f"{place.project_key}-{row.id}",
        log_policy_matched=row.log_signal,
    )
    its = message.experiment
    its.id, its.name, its.description = experiment.id, experiment.name, experiment.description
    its.searcher_type = str(searcher.get("name", ""))
    its.searcher_metric = str(searcher.get("metric") or "")
    its.resource_pool = experiment.resource_pool
    its.progress = experiment.progress or 0
    its.unmanaged = experiment.unmanaged
    its.is_multitrial = is_multitrial(searcher)
    if experiment.parent_id is not None:
        its.forked_from = experiment.parent_id
    if experiment.external_id is not None:
        its.external_experiment_id = experiment.external_id
    if row.run_metadata is not None:
        to_struct(row.run_metadata, message.metadata)
        message.metadata.SetInParent()
    return message


def read_config(row: ExperimentRow) -> dict[str, Any]:
    """Read the stored configuration, secrets included."""
    config: dict[str, Any] = json.loads(row.config)
    return config


def get_part(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """One mapping of a configuration; an empty one where it has none."""
    part = config.get(key)
    return cast("Mapping[str, Any]", part) if isinstance(part, Mapping) else {}


def is_multitrial(searcher: Mapping[str, Any]) -> bool:
    """Whether a search of this kind can have more than one trial."""
    return searcher.get("name") != "single"


def stamp(moment: datetime) -> Timestamp:
    """Write a moment."""
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def _duration_s(row: ExperimentRow | TrialRow) -> int:
    seconds = ((row.ended_at or datetime.now(UTC)) - row.started_at).total_seconds()
    return max(0, min(int(seconds), _LONGEST_S))
