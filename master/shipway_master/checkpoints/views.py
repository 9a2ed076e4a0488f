"""Checkpoints as the API writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf.struct_pb2 import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.auth import Principal
from shipway_master.checkpoints.measured import (
    TRAINING,
    VALIDATION,
    Measured,
    load_measured,
    measure,
)
from shipway_master.checkpoints.records import Found
from shipway_master.checkpoints.storages import (
    POLICY_KEYS,
    SECRET_KEYS,
    load_storages,
    storage_of_experiment,
)
from shipway_master.experiments.config import mask_secrets
from shipway_master.queries.views import get_part, read_config, stamp
from shipway_master.store.experiments import ExperimentRow
from shipway_master.structs import to_struct
from shipway_master.trialmetrics.facts import SearcherMetric, read_searcher_metric
from shipway_proto.determined.checkpoint.v1 import checkpoint_pb2
from shipway_proto.determined.checkpoint.v1.checkpoint_pb2 import Checkpoint

_NOTHING: Final = Measured()


async def view_checkpoints(
    session: AsyncSession, found: Sequence[Found], reader: Principal
) -> list[Checkpoint]:
    """Write checkpoints in the order of *found*.

    Their configuration names the storage that they are in. Only who may change them gets its keys;
    without these the client asks the master for the files.
    """
    measured = await load_measured(session, [one.row.id for one in found], (TRAINING, VALIDATION))
    storages = await load_storages(session, [one.row for one in found])
    experiments: dict[tuple[int, int | None], tuple[Struct, SearcherMetric | None]] = {}
    messages: list[Checkpoint] = []
    for one in found:
        key = (one.experiment.id, one.row.storage_id)
        if key not in experiments:
            storage = storages.get(one.row.storage_id or 0)
            config = to_struct(_read_config(one.experiment, storage, reader))
            experiments[key] = config, read_searcher_metric(one.experiment.config)
        messages.append(_view(one, measured.get(one.row.id, _NOTHING), *experiments[key]))
    return messages


def _view(
    found: Found, measured: Measured, config: Struct, judged_by: SearcherMetric | None
) -> Checkpoint:
    row = found.row
    message = Checkpoint(
        task_id=row.task_id,
        allocation_id=row.allocation_id,
        uuid=row.uuid,
        report_time=stamp(row.reported_at),
        resources=row.resources,
        state=checkpoint_pb2.State.Value(f"STATE_{row.state}"),
        storage_id=row.storage_id,
    )
    _put(row.meta, message.metadata)
    training = message.training
    training.trial_id, training.experiment_id = found.trial.id, found.experiment.id
    training.experiment_config.CopyFrom(config)
    _put(found.trial.hparams, training.hparams)
    if TRAINING in measured.by_group:
        _put(measured.by_group[TRAINING], training.training_metrics.avg_metrics)
    if VALIDATION in measured.by_group:
        _put(measured.by_group[VALIDATION], training.validation_metrics.avg_metrics)
    value = None if judged_by is None else measure(judged_by.name, measured.validation)
    if value is not None:
        training.searcher_metric = value
    return message


def _put(data: Mapping[str, Any], into: Struct) -> None:
    into.SetInParent()
    to_struct(data, into)


def _read_config(
    experiment: ExperimentRow, storage: Mapping[str, Any] | None, reader: Principal
) -> dict[str, Any]:
    config = read_config(experiment)
    part = get_part(config, "checkpoint_storage")
    shown = {
        **(storage_of_experiment(experiment) if storage is None else storage),
        **{key: part[key] for key in POLICY_KEYS if key in part},
    }
    if not (reader.is_admin or reader.user_id == experiment.owner_id):
        shown = {key: value for key, value in shown.items() if key not in SECRET_KEYS}
    return {**mask_secrets(config), "checkpoint_storage": shown}
