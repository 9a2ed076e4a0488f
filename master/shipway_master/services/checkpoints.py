"""Checkpoints: found, listed, described, and removed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from shipway_master.checkpoints.access import require_own
from shipway_master.checkpoints.lists import Wanted, load_list
from shipway_master.checkpoints.records import CheckpointRecords, Found
from shipway_master.checkpoints.views import view_checkpoints
from shipway_master.errors import InvalidArgument, NotFound
from shipway_master.rpc import Call
from shipway_master.services.told import told
from shipway_master.store.checkpoints import CheckpointRow
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.structs import to_plain
from shipway_master.trialmetrics.facts import read_searcher_metric
from shipway_proto.determined.api.v1 import checkpoint_pb2, experiment_pb2, trial_pb2
from shipway_proto.determined.checkpoint.v1.checkpoint_pb2 import (
    Checkpoint,
    State,
)

_EVERYTHING = "**/*"


class Remover(Protocol):
    """Has files of checkpoints removed."""

    async def remove(self, uuids: Collection[str], globs: Collection[str]) -> None:
        """Start to remove what the patterns match from checkpoints that are there."""
        ...


class CheckpointService:
    """The RPCs of checkpoints; every user may read all of them."""

    def __init__(self, database: Database, records: CheckpointRecords, remover: Remover) -> None:
        self._database, self._records, self._remover = database, records, remover

    async def GetCheckpoint(
        self, request: checkpoint_pb2.GetCheckpointRequest, call: Call
    ) -> checkpoint_pb2.GetCheckpointResponse:
        """Find one checkpoint."""
        found = await self._records.get(request.checkpoint_uuid)
        return checkpoint_pb2.GetCheckpointResponse(checkpoint=await self._view(found, call))

    async def GetTrialCheckpoints(
        self, request: trial_pb2.GetTrialCheckpointsRequest, call: Call
    ) -> trial_pb2.GetTrialCheckpointsResponse:
        """List the checkpoints of a trial."""
        async with self._database.reading() as session:
            trial = await session.get(TrialRow, request.id)
            if trial is None:
                raise NotFound("trial", request.id)
            experiment = await session.get_one(ExperimentRow, trial.experiment_id)
            of = CheckpointRow.trial_id == trial.id
            page, pagination = await load_list(
                session, of, _read_wanted(request), read_searcher_metric(experiment.config)
            )
            return trial_pb2.GetTrialCheckpointsResponse(
                checkpoints=await view_checkpoints(session, page, call.principal),
                pagination=pagination,
            )

    async def GetExperimentCheckpoints(
        self, request: experiment_pb2.GetExperimentCheckpointsRequest, call: Call
    ) -> experiment_pb2.GetExperimentCheckpointsResponse:
        """List the checkpoints of all trials of an experiment."""
        async with self._database.reading() as session:
            experiment = await session.get(ExperimentRow, request.id)
            if experiment is None:
                raise NotFound("experiment", request.id)
            of = TrialRow.experiment_id == experiment.id
            page, pagination = await load_list(
                session, of, _read_wanted(request), read_searcher_metric(experiment.config)
            )
            return experiment_pb2.GetExperimentCheckpointsResponse(
                checkpoints=await view_checkpoints(session, page, call.principal),
                pagination=pagination,
            )

    async def PostCheckpointMetadata(
        self, request: checkpoint_pb2.PostCheckpointMetadataRequest, call: Call
    ) -> checkpoint_pb2.PostCheckpointMetadataResponse:
        """Replace the user's own data about a checkpoint."""
        await require_own(self._database, [request.checkpoint.uuid], call.principal)
        meta = to_plain(request.checkpoint.metadata)
        found = await self._records.set_meta(request.checkpoint.uuid, meta)
        return checkpoint_pb2.PostCheckpointMetadataResponse(
            checkpoint=await self._view(found, call)
        )

    async def DeleteCheckpoints(
        self, request: checkpoint_pb2.DeleteCheckpointsRequest, call: Call
    ) -> checkpoint_pb2.DeleteCheckpointsResponse:
        """Have checkpoints removed from storage; they are shown as deleted when they are."""
        uuids = await require_own(self._database, request.checkpoint_uuids, call.principal)
        with told():
            await self._remover.remove(uuids, [_EVERYTHING])
        return checkpoint_pb2.DeleteCheckpointsResponse()

    async def CheckpointsRemoveFiles(
        self, request: checkpoint_pb2.CheckpointsRemoveFilesRequest, call: Call
    ) -> checkpoint_pb2.CheckpointsRemoveFilesResponse:
        """Have files removed from checkpoints; without a pattern, only look what is there."""
        for glob in request.checkpoint_globs:
            _check_glob(glob)
        uuids = await require_own(self._database, request.checkpoint_uuids, call.principal)
        with told():
            await self._remover.remove(uuids, list(request.checkpoint_globs))
        return checkpoint_pb2.CheckpointsRemoveFilesResponse()

    async def _view(self, found: Found, call: Call) -> Checkpoint:
        async with self._database.reading() as session:
            return (await view_checkpoints(session, [found], call.principal))[0]


def _read_wanted(
    request: trial_pb2.GetTrialCheckpointsRequest | experiment_pb2.GetExperimentCheckpointsRequest,
) -> Wanted:
    return Wanted(
        metric=request.sort_by_metric,
        attribute=request.sort_by_attr,
        order=request.order_by,
        states=[_read_state(state) for state in request.states],
        offset=request.offset,
        limit=request.limit,
    )


def _read_state(number: State.ValueType) -> str:
    try:
        return State.Name(number).removeprefix("STATE_")
    except ValueError as error:
        raise InvalidArgument(f"states: {number} is no state of a checkpoint") from error


def _check_glob(glob: str) -> None:
    if not glob:
        raise InvalidArgument("a pattern of files is empty")
    if glob.startswith("/") or ".." in glob.split("/") or "\0" in glob:
        raise InvalidArgument(f"pattern {glob[:80]!r} lies outside of the checkpoint")
