"""TensorBoards in the database, and the experiments and trials that they are made from."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from sqlalchemy import select

from shipway_master.allocations.ids import TaskId
from shipway_master.errors import NotFound
from shipway_master.queries.lists import pick_experiments
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.store.tensorboards import TensorboardRow
from shipway_master.tensorboards.board import Board, Source
from shipway_proto.determined.api.v1.experiment_pb2 import BulkExperimentFilters


class TensorboardRecords:
    """Reads and writes what TensorBoards show."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, task_id: TaskId, board: Board) -> None:
        """Store what a task is to show; it must be known before the task is."""
        row = TensorboardRow(
            task_id=task_id,
            experiment_ids=list(board.experiment_ids),
            trial_ids=list(board.trial_ids),
            folders=dict(board.folders),
            storage=json.dumps(board.storage),
        )
        async with self._database.writing() as session:
            session.add(row)

    async def load(self, task_ids: Collection[TaskId]) -> dict[TaskId, Board]:
        """Load what tasks show."""
        statement = select(TensorboardRow).where(TensorboardRow.task_id.in_(task_ids))
        async with self._database.reading() as session:
            rows = (await session.scalars(statement)).all()
        return {
            TaskId(row.task_id): Board(
                experiment_ids=row.experiment_ids,
                trial_ids=row.trial_ids,
                folders=row.folders,
                storage=json.loads(row.storage),
            )
            for row in rows
        }

    async def find_sources(
        self,
        experiment_ids: Sequence[int],
        trial_ids: Sequence[int],
        filters: BulkExperimentFilters | None,
    ) -> list[Source]:
        """Find what is to be shown, each thing once; with *filters*, what they match too.

        Raises:
            NotFound: There is no such experiment or trial.
        """
        async with self._database.reading() as session:
            statement = select(ExperimentRow).where(ExperimentRow.id.in_(experiment_ids))
            experiments = {row.id: row for row in await session.scalars(statement)}
            for missing in (one for one in experiment_ids if one not in experiments):
                raise NotFound("experiment", missing)
            if filters is not None:
                matching = await session.scalars(pick_experiments(filters))
                experiments |= {row.id: row for row in matching}
            found = await session.execute(
                select(TrialRow.id, ExperimentRow)
                .join(ExperimentRow, ExperimentRow.id == TrialRow.experiment_id)
                .where(TrialRow.id.in_(trial_ids))
            )
            trials = {trial_id: row for trial_id, row in found}  # noqa: C416 (types)
        for missing in (one for one in trial_ids if one not in trials):
            raise NotFound("trial", missing)
        return [
            *(
                Source(experiment_id=row.id, config=json.loads(row.config))
                for row in experiments.values()
            ),
            *(
                Source(experiment_id=row.id, trial_id=trial_id, config=json.loads(row.config))
                for trial_id, row in trials.items()
            ),
        ]
