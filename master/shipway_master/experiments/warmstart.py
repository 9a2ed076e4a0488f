"""The checkpoint of another trial that all trials of an experiment begin with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from shipway_master.checkpoints.latest import find_latest
from shipway_master.checkpoints.records import parse_uuid
from shipway_master.checkpoints.state import CheckpointState
from shipway_master.errors import InvalidArgument
from shipway_master.experiments.errors import BadExperiment
from shipway_master.store.checkpoints import CheckpointRow
from shipway_master.store.database import Database
from shipway_master.store.experiments import TrialRow


class WarmStart:
    """Finds what the section `searcher` of a configuration names as the source of its trials."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_source(self, config: Mapping[str, Any]) -> str | None:
        """Find the UUID of the checkpoint; None where the configuration names no source.

        Raises:
            BadExperiment: What it names is not there, or is not whole.
        """
        searcher = config["searcher"]
        if searcher.get("source_trial_id") is not None:
            return await self._find_of_trial(searcher["source_trial_id"])
        if searcher.get("source_checkpoint_uuid") is not None:
            return await self._find_by_uuid(searcher["source_checkpoint_uuid"])
        return None

    async def _find_of_trial(self, trial_id: int) -> str:
        where = f"searcher.source_trial_id: trial {trial_id}"
        async with self._database.reading() as session:
            is_there = await session.get(TrialRow, trial_id) is not None
        if not is_there:
            raise BadExperiment(f"{where} does not exist")
        latest = await find_latest(self._database, trial_id)
        if latest is None:
            raise BadExperiment(f"{where} has no checkpoint to begin with")
        return latest[0]

    async def _find_by_uuid(self, text: str) -> str:
        where = f"searcher.source_checkpoint_uuid: checkpoint {text}"
        try:
            uuid = parse_uuid(text)
        except InvalidArgument as error:
            raise BadExperiment(f"searcher.source_checkpoint_uuid: {error}") from error
        statement = select(CheckpointRow.state).where(CheckpointRow.uuid == uuid)
        async with self._database.reading() as session:
            state = await session.scalar(statement)
        if state is None:
            raise BadExperiment(f"{where} does not exist")
        if state != CheckpointState.COMPLETED.value:
            raise BadExperiment(f"{where} is in state {state}: its files are not all there")
        return uuid
