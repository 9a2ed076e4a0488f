"""The files that experiments wrote for TensorBoard."""

from __future__ import annotations

from typing import Final

from shipway_master.checkpoints.gc import CollectionFailed, CollectionLasts, Collector
from shipway_master.errors import FailedPrecondition, NotFound
from shipway_master.rpc import Call, long_poll
from shipway_master.services.told import told
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow
from shipway_proto.determined.api.v1 import experiment_pb2 as api

_LIMIT_S: Final = 300.0
"""So long a caller waits for the task."""


class TensorboardFileService:
    """The RPC that removes them."""

    def __init__(self, database: Database, collector: Collector) -> None:
        self._database, self._collector = database, collector

    @long_poll
    async def DeleteTensorboardFiles(
        self, request: api.DeleteTensorboardFilesRequest, call: Call
    ) -> api.DeleteTensorboardFilesResponse:
        """Remove the files of an experiment by a task, and answer when they are gone.

        Asked again meanwhile, it waits for the same task.
        """
        async with self._database.reading() as session:
            experiment = await session.get(ExperimentRow, request.experiment_id)
        if experiment is None:
            raise NotFound("experiment", request.experiment_id)
        call.principal.require_owner_or_admin(experiment.owner_id)
        try:
            with told():
                await self._collector.remove_tensorboards(experiment.id, limit_s=_LIMIT_S)
        except (CollectionFailed, CollectionLasts) as error:
            # DeadlineExceeded would be HTTP 504: the stock client then asks again five times, and
            # shows nobody this text.
            raise FailedPrecondition(str(error)) from error
        return api.DeleteTensorboardFilesResponse()
