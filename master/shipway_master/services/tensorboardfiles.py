"""The files that experiments wrote for TensorBoard."""

from __future__ import annotations

from shipway_master.checkpoints.gc import CollectionFailed, Collector
from shipway_master.errors import FailedPrecondition, NotFound
from shipway_master.rpc import Call
from shipway_master.services.told import told
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow
from shipway_proto.determined.api.v1 import experiment_pb2 as api


class TensorboardFileService:
    """The RPC that removes them."""

    def __init__(self, database: Database, collector: Collector) -> None:
        self._database, self._collector = database, collector

    async def DeleteTensorboardFiles(
        self, request: api.DeleteTensorboardFilesRequest, call: Call
    ) -> api.DeleteTensorboardFilesResponse:
        """Remove the files of an experiment by a task, and answer when they are gone."""
        async with self._database.reading() as session:
            experiment = await session.get(ExperimentRow, request.experiment_id)
        if experiment is None:
            raise NotFound("experiment", request.experiment_id)
        call.principal.require_owner_or_admin(experiment.owner_id)
        try:
            with told():
                await self._collector.remove_tensorboards(experiment.id)
        except CollectionFailed as error:
            raise FailedPrecondition(str(error)) from error
        return api.DeleteTensorboardFilesResponse()
