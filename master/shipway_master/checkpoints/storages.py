"""Checkpoint storages: kept when a trial names one, and found for what was written there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, cast

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.errors import InvalidArgument
from shipway_master.store.checkpoints import CheckpointRow, StorageRow
from shipway_master.store.experiments import ExperimentRow

POLICY_KEYS: Final = ("save_experiment_best", "save_trial_best", "save_trial_latest")
"""What stands beside the storage in a configuration, but is no part of it."""
SECRET_KEYS: Final = ("access_key", "secret_key", "connection_string", "credential")
_TYPES: Final = ("shared_fs", "directory", "s3", "gcs", "azure")


def read_storage(config: Mapping[str, Any]) -> dict[str, Any]:
    """Take the storage out of the `checkpoint_storage` of a configuration.

    Raises:
        InvalidArgument: Its type is none of those that there are.
    """
    storage = {key: value for key, value in config.items() if key not in POLICY_KEYS}
    if storage.get("type") not in _TYPES:
        raise InvalidArgument(f"checkpoint_storage.type must be one of {', '.join(_TYPES)}")
    return storage


async def keep_storage(session: AsyncSession, storage: Mapping[str, Any], owner_id: int) -> int:
    """Store a storage of a user unless an equal one is there, and return its id."""
    config = json.dumps(storage, sort_keys=True, ensure_ascii=False)
    digest = hashlib.sha256(f"{owner_id} {config}".encode("utf-8", "surrogatepass")).hexdigest()
    statement = select(StorageRow.id).where(StorageRow.digest == digest)
    known = await session.scalar(statement)
    if known is not None:
        return known
    row = StorageRow(digest=digest, owner_id=owner_id, config=config)
    session.add(row)
    await session.flush()
    return row.id


async def load_storages(
    session: AsyncSession, rows: list[CheckpointRow]
) -> dict[int, dict[str, Any]]:
    """Load the storages that checkpoints name, secrets included, by their ids."""
    ids = {row.storage_id for row in rows if row.storage_id is not None}
    statement = select(StorageRow).where(StorageRow.id.in_(ids))
    return {row.id: json.loads(row.config) for row in await session.scalars(statement)}


async def find_storage(
    session: AsyncSession, row: CheckpointRow, experiment: ExperimentRow
) -> dict[str, Any]:
    """Find where a checkpoint is, secrets included; empty if nobody ever said it."""
    storages = await load_storages(session, [row])
    return storages.get(row.storage_id or 0) or storage_of_experiment(experiment)


def storage_of_experiment(experiment: ExperimentRow) -> dict[str, Any]:
    """The storage that the configuration of an experiment names; empty if it names none."""
    config: Any = json.loads(experiment.config).get("checkpoint_storage")
    if not isinstance(config, Mapping):
        return {}
    items = cast("Mapping[str, Any]", config).items()
    return {key: value for key, value in items if key not in POLICY_KEYS}
