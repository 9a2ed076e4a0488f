"""Calls about many experiments: each is taken by itself, and each has its own result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import select

from shipway_master.errors import MasterError, NotFound
from shipway_master.queries.lists import pick_experiments
from shipway_master.rpc import Call
from shipway_master.services.actions import ExperimentActions, check_days
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow
from shipway_proto.determined.api.v1 import experiment_pb2 as api

Act = Callable[[int], Awaitable[None]]
Results = list[api.ExperimentActionResult]
_BATCH = 500
"""Databases limit the values of one statement."""


class ManyExperimentsService:
    """The RPCs about many experiments."""

    def __init__(self, database: Database, actions: ExperimentActions) -> None:
        self._database, self._actions = database, actions

    async def ActivateExperiments(
        self, request: api.ActivateExperimentsRequest, call: Call
    ) -> api.ActivateExperimentsResponse:
        """Let the trials of experiments run."""
        results = await self._each(request, lambda one: self._actions.activate(one, call.principal))
        return api.ActivateExperimentsResponse(results=results)

    async def PauseExperiments(
        self, request: api.PauseExperimentsRequest, call: Call
    ) -> api.PauseExperimentsResponse:
        """Have the trials of experiments leave their resources."""
        results = await self._each(request, lambda one: self._actions.pause(one, call.principal))
        return api.PauseExperimentsResponse(results=results)

    async def CancelExperiments(
        self, request: api.CancelExperimentsRequest, call: Call
    ) -> api.CancelExperimentsResponse:
        """Have the trials of experiments end in good order."""
        results = await self._each(request, lambda one: self._actions.cancel(one, call.principal))
        return api.CancelExperimentsResponse(results=results)

    async def KillExperiments(
        self, request: api.KillExperimentsRequest, call: Call
    ) -> api.KillExperimentsResponse:
        """End the trials of experiments at once."""
        results = await self._each(request, lambda one: self._actions.kill(one, call.principal))
        return api.KillExperimentsResponse(results=results)

    async def DeleteExperiments(
        self, request: api.DeleteExperimentsRequest, call: Call
    ) -> api.DeleteExperimentsResponse:
        """Begin to delete experiments that have ended."""
        results = await self._each(request, lambda one: self._actions.delete(one, call.principal))
        return api.DeleteExperimentsResponse(results=results)

    async def ArchiveExperiments(
        self, request: api.ArchiveExperimentsRequest, call: Call
    ) -> api.ArchiveExperimentsResponse:
        """Put experiments that have ended aside."""

        def archive(one: int) -> Awaitable[None]:
            return self._actions.archive(one, call.principal, is_archived=True)

        return api.ArchiveExperimentsResponse(results=await self._each(request, archive))

    async def UnarchiveExperiments(
        self, request: api.UnarchiveExperimentsRequest, call: Call
    ) -> api.UnarchiveExperimentsResponse:
        """Put experiments back among the others."""

        def unarchive(one: int) -> Awaitable[None]:
            return self._actions.archive(one, call.principal, is_archived=False)

        return api.UnarchiveExperimentsResponse(results=await self._each(request, unarchive))

    async def MoveExperiments(
        self, request: api.MoveExperimentsRequest, call: Call
    ) -> api.MoveExperimentsResponse:
        """Move experiments into another project."""
        destination = request.destination_project_id
        await self._actions.load_terms(destination)

        def move(one: int) -> Awaitable[None]:
            return self._actions.move(one, destination, call.principal)

        return api.MoveExperimentsResponse(results=await self._each(request, move))

    async def PutExperimentsRetainLogs(
        self, request: api.PutExperimentsRetainLogsRequest, call: Call
    ) -> api.PutExperimentsRetainLogsResponse:
        """Say how long the logs of experiments are kept."""
        check_days(request.num_days)

        def retain(one: int) -> Awaitable[None]:
            return self._actions.retain_logs(one, request.num_days, call.principal)

        return api.PutExperimentsRetainLogsResponse(results=await self._each(request, retain))

    async def _each(self, request: Any, act: Act) -> Results:
        """Act on each experiment that *request* names: by filters if it has any, else by ids."""
        results: Results = []
        for experiment_id, is_there in (await self._pick(request)).items():
            error = ""
            try:
                if not is_there:
                    raise NotFound("experiment", experiment_id)
                await act(experiment_id)
            except MasterError as problem:
                error = problem.text
            results.append(api.ExperimentActionResult(id=experiment_id, error=error))
        return results

    async def _pick(self, request: Any) -> dict[int, bool]:
        """Find out which experiments are meant, and whether each is in the project asked for."""
        project_id: int = request.project_id
        if request.HasField("filters"):
            found = pick_experiments(request.filters).with_only_columns(ExperimentRow.id)
            if project_id:
                found = found.where(ExperimentRow.project_id == project_id)
            async with self._database.reading() as session:
                return dict.fromkeys((await session.scalars(found)).all(), True)
        picked: dict[int, bool] = dict.fromkeys(request.experiment_ids, not project_id)
        if project_id:
            ids = list(picked)
            async with self._database.reading() as session:
                for start in range(0, len(ids), _BATCH):
                    inside = select(ExperimentRow.id).where(
                        ExperimentRow.id.in_(ids[start : start + _BATCH]),
                        ExperimentRow.project_id == project_id,
                    )
                    picked.update(dict.fromkeys((await session.scalars(inside)).all(), True))
        return picked
