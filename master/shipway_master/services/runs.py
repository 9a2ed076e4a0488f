"""Runs, which are trials looked at one by one: what is done to many of them, and their metadata."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import func, select
from sqlalchemy.orm import aliased

from shipway_master.errors import FailedPrecondition, InvalidArgument, MasterError, NotFound
from shipway_master.queries.loading import get_trial_row
from shipway_master.queries.metadata import check_metadata
from shipway_master.queries.search import search_runs
from shipway_master.rpc import Call
from shipway_master.services.actions import ExperimentActions
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.structs import to_plain, to_struct
from shipway_master.trialmetrics.facts import KnownTrials
from shipway_proto.determined.api.v1 import run_pb2 as api

_BATCH = 500
"""Databases limit the values of one statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    id: int
    experiment_id: int
    is_alone: bool
    """Whether its experiment has no other trial."""

    def require_alone(self, what: str) -> None:
        """Refuse what can be done to whole experiments only."""
        if not self.is_alone:
            raise FailedPrecondition(
                f"run {self.id} belongs to a search with several trials: "
                f"{what} experiment {self.experiment_id} instead"
            )


class _Chosen(Protocol):
    """Requests about many runs."""

    @property
    def run_ids(self) -> Any: ...
    @property
    def filter(self) -> str: ...
    def HasField(self, field_name: Any, /) -> bool: ...


Act = Callable[[_Run], Awaitable[None]]
Results = list[api.RunActionResult]


class RunService:
    """The RPCs of runs; a search for them is in `experimentsearch`."""

    def __init__(self, database: Database, actions: ExperimentActions, known: KnownTrials) -> None:
        self._database, self._actions, self._known = database, actions, known

    # metadata

    async def GetRunMetadata(
        self, request: api.GetRunMetadataRequest, call: Call
    ) -> api.GetRunMetadataResponse:
        """Read what the user's code has left with a run."""
        async with self._database.reading() as session:
            row = await get_trial_row(session, request.run_id)
        return api.GetRunMetadataResponse(metadata=to_struct(row.run_metadata or {}))

    async def PostRunMetadata(
        self, request: api.PostRunMetadataRequest, call: Call
    ) -> api.PostRunMetadataResponse:
        """Replace what is left with a run."""
        await self._known.get_for_report(request.run_id, call.principal)
        metadata = to_plain(request.metadata)
        check_metadata(metadata)
        async with self._database.writing() as session:
            row = await get_trial_row(session, request.run_id)
            row.run_metadata = metadata
        return api.PostRunMetadataResponse(metadata=to_struct(metadata))

    # many of them

    async def KillRuns(self, request: api.KillRunsRequest, call: Call) -> api.KillRunsResponse:
        """End runs at once; those that have ended stay as they are."""

        def kill(run: _Run) -> Awaitable[None]:
            return self._actions.kill_trial(run.experiment_id, run.id, call.principal)

        return api.KillRunsResponse(results=await self._each(request, request.project_id, kill))

    async def PauseRuns(self, request: api.PauseRunsRequest, call: Call) -> api.PauseRunsResponse:
        """Have runs leave their resources."""

        async def pause(run: _Run) -> None:
            run.require_alone("pause")
            await self._actions.pause(run.experiment_id, call.principal)

        return api.PauseRunsResponse(results=await self._each(request, request.project_id, pause))

    async def ResumeRuns(
        self, request: api.ResumeRunsRequest, call: Call
    ) -> api.ResumeRunsResponse:
        """Let paused runs go on."""

        async def resume(run: _Run) -> None:
            run.require_alone("activate")
            await self._actions.activate(run.experiment_id, call.principal)

        return api.ResumeRunsResponse(results=await self._each(request, request.project_id, resume))

    async def DeleteRuns(
        self, request: api.DeleteRunsRequest, call: Call
    ) -> api.DeleteRunsResponse:
        """Begin to delete runs of experiments that have ended; the only run takes its experiment."""

        async def delete(run: _Run) -> None:
            if run.is_alone:
                await self._actions.delete(run.experiment_id, call.principal)
            else:
                await self._actions.delete_trial(run.experiment_id, run.id, call.principal)

        return api.DeleteRunsResponse(results=await self._each(request, request.project_id, delete))

    async def ArchiveRuns(
        self, request: api.ArchiveRunsRequest, call: Call
    ) -> api.ArchiveRunsResponse:
        """Put runs that have ended aside."""

        def archive(run: _Run) -> Awaitable[None]:
            return self._actions.archive_trial(run.id, call.principal, is_archived=True)

        results = await self._each(request, request.project_id, archive)
        return api.ArchiveRunsResponse(results=results)

    async def UnarchiveRuns(
        self, request: api.UnarchiveRunsRequest, call: Call
    ) -> api.UnarchiveRunsResponse:
        """Put runs back among the others."""

        def unarchive(run: _Run) -> Awaitable[None]:
            return self._actions.archive_trial(run.id, call.principal, is_archived=False)

        results = await self._each(request, request.project_id, unarchive)
        return api.UnarchiveRunsResponse(results=results)

    async def MoveRuns(self, request: api.MoveRunsRequest, call: Call) -> api.MoveRunsResponse:
        """Move runs, and so their experiments, into another project."""
        destination = request.destination_project_id
        await self._actions.load_terms(request.source_project_id)
        await self._actions.load_terms(destination)

        async def move(run: _Run) -> None:
            run.require_alone("move")
            await self._actions.move(run.experiment_id, destination, call.principal)

        results = await self._each(
            request, request.source_project_id, move, skips_several=request.skip_multitrial
        )
        return api.MoveRunsResponse(results=results)

    async def _each(
        self, request: _Chosen, project_id: int, act: Act, *, skips_several: bool = False
    ) -> Results:
        """Act on each run that *request* names: by its filter if it has one, else by ids."""
        results: Results = []
        for run_id, run in (await self._pick(request, project_id)).items():
            if run is not None and skips_several and not run.is_alone:
                continue
            error = ""
            try:
                if run is None:
                    raise NotFound("run", run_id)
                await act(run)
            except MasterError as problem:
                error = problem.text
            results.append(api.RunActionResult(id=run_id, error=error))
        return results

    async def _pick(self, request: _Chosen, project_id: int) -> dict[int, _Run | None]:
        """Find the runs that are meant; of those named by ids, None stands for what is not there."""
        if request.HasField("filter"):
            if request.run_ids:
                raise InvalidArgument("give run_ids or a filter, and not both")
            return dict(await self._load(project_id, filter_text=request.filter))
        ids: list[int] = list(dict.fromkeys(request.run_ids))
        picked: dict[int, _Run | None] = dict.fromkeys(ids)
        for start in range(0, len(ids), _BATCH):
            picked.update(await self._load(project_id, ids=ids[start : start + _BATCH]))
        return picked

    async def _load(
        self, project_id: int, *, filter_text: str = "", ids: list[int] | None = None
    ) -> dict[int, _Run]:
        other = aliased(TrialRow)
        count = select(func.count()).where(other.experiment_id == ExperimentRow.id)
        found = search_runs(
            TrialRow.id,
            ExperimentRow.id,
            count.correlate(ExperimentRow).scalar_subquery(),
            project_id=project_id or None,
            filter_text=filter_text,
        )
        if ids is not None:
            found = found.where(TrialRow.id.in_(ids))
        async with self._database.reading() as session:
            return {
                run_id: _Run(id=run_id, experiment_id=experiment_id, is_alone=trials == 1)
                for run_id, experiment_id, trials in await session.execute(found)
            }
