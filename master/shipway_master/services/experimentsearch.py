"""Searches for experiments and runs, and the columns that they can be searched by."""

from __future__ import annotations

from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.errors import InvalidArgument, NotFound
from shipway_master.queries.loading import load_experiments, load_runs, load_trials
from shipway_master.queries.paging import load_page
from shipway_master.queries.projectcolumns import (
    list_experiment_columns,
    list_metadata_values,
    list_run_columns,
)
from shipway_master.queries.search import search_experiments, search_runs
from shipway_master.rpc import Call
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.store.workspaces import ProjectRow
from shipway_proto.determined.api.v1.experiment_pb2 import (
    SearchExperimentExperiment,
    SearchExperimentsRequest,
    SearchExperimentsResponse,
)
from shipway_proto.determined.api.v1.project_pb2 import (
    TABLE_TYPE_RUN,
    GetMetadataValuesRequest,
    GetMetadataValuesResponse,
    GetProjectColumnsRequest,
    GetProjectColumnsResponse,
)
from shipway_proto.determined.api.v1.run_pb2 import SearchRunsRequest, SearchRunsResponse

_MAX_DEPTH: Final = 10


class ExperimentSearchService:
    """The RPCs of searches; every user sees all experiments."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def SearchExperiments(
        self, request: SearchExperimentsRequest, call: Call
    ) -> SearchExperimentsResponse:
        """Find experiments, each with its best trial."""
        found = search_experiments(
            project_id=request.project_id if request.HasField("project_id") else None,
            filter_text=request.filter,
            sort_text=request.sort,
        )
        async with self._database.reading() as session:
            await _check_project(session, request)
            rows, pagination = await load_page(
                session, found, offset=request.offset, limit=request.limit
            )
            experiments = await load_experiments(session, [row[0] for row in rows], call.principal)
            best_rows = [row[1] for row in rows if row[1] is not None]
            best = {trial.id: trial for trial in await load_trials(session, best_rows)}
        return SearchExperimentsResponse(
            experiments=[
                SearchExperimentExperiment(
                    experiment=experiment,
                    best_trial=None if row[1] is None else best[row[1].id],
                )
                for experiment, row in zip(experiments, rows, strict=True)
            ],
            pagination=pagination,
        )

    async def SearchRuns(self, request: SearchRunsRequest, call: Call) -> SearchRunsResponse:
        """Find runs."""
        found = search_runs(
            TrialRow,
            ExperimentRow,
            project_id=request.project_id if request.HasField("project_id") else None,
            filter_text=request.filter,
            sort_text=request.sort,
        )
        async with self._database.reading() as session:
            await _check_project(session, request)
            rows, pagination = await load_page(
                session, found, offset=request.offset, limit=request.limit
            )
            runs = await load_runs(session, [(row[0], row[1]) for row in rows])
        return SearchRunsResponse(runs=runs, pagination=pagination)

    async def GetProjectColumns(
        self, request: GetProjectColumnsRequest, call: Call
    ) -> GetProjectColumnsResponse:
        """List the columns that a project's experiments or runs can be shown and sorted by."""
        list_columns = (
            list_run_columns if request.table_type == TABLE_TYPE_RUN else list_experiment_columns
        )
        async with self._database.reading() as session:
            await _require_project(session, request.id)
            return GetProjectColumnsResponse(columns=await list_columns(session, request.id))

    async def GetMetadataValues(
        self, request: GetMetadataValuesRequest, call: Call
    ) -> GetMetadataValuesResponse:
        """List the texts that the runs of a project have in their metadata under a key."""
        path = request.key.removeprefix("metadata.").split(".")
        if not all(path) or len(path) > _MAX_DEPTH:
            raise InvalidArgument(f"key: {request.key[:80]!r} is no path of keys with dots between")
        async with self._database.reading() as session:
            await _require_project(session, request.project_id)
            values = await list_metadata_values(session, request.project_id, path)
        return GetMetadataValuesResponse(values=values)


async def _check_project(
    session: AsyncSession, request: SearchExperimentsRequest | SearchRunsRequest
) -> None:
    if request.HasField("project_id"):
        await _require_project(session, request.project_id)


async def _require_project(session: AsyncSession, project_id: int) -> None:
    if await session.get(ProjectRow, project_id) is None:
        raise NotFound("project", project_id)
