"""Experiments and trials as people read them."""

from __future__ import annotations

from sqlalchemy import func, select

from shipway_master.errors import NotFound
from shipway_master.experiments.config import mask_secrets
from shipway_master.queries.jsonvalues import json_elements
from shipway_master.queries.lists import list_experiments, list_trials
from shipway_master.queries.loading import (
    get_experiment_row,
    load_experiments,
    load_trial,
    load_trials,
)
from shipway_master.queries.paging import load_page
from shipway_master.queries.states import FINAL_STATES
from shipway_master.queries.views import get_part, read_config
from shipway_master.rpc import Call
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.structs import to_struct
from shipway_master.tasks.tasks import Tasks
from shipway_master.tasks.views import view_job_summary
from shipway_proto.determined.api.v1.experiment_pb2 import (
    GetExperimentLabelsRequest,
    GetExperimentLabelsResponse,
    GetExperimentRequest,
    GetExperimentResponse,
    GetExperimentsRequest,
    GetExperimentsResponse,
)
from shipway_proto.determined.api.v1.trial_pb2 import (
    GetExperimentTrialsRequest,
    GetExperimentTrialsResponse,
    GetTrialByExternalIDRequest,
    GetTrialByExternalIDResponse,
    GetTrialRequest,
    GetTrialResponse,
)
from shipway_proto.determined.job.v1.job_pb2 import JobSummary


class ExperimentListService:
    """The RPCs that read experiments and trials; every user sees all of them."""

    def __init__(self, database: Database, tasks: Tasks) -> None:
        self._database, self._tasks = database, tasks

    async def GetExperiment(
        self, request: GetExperimentRequest, call: Call
    ) -> GetExperimentResponse:
        """Find an experiment, and its place in the queue while it lives."""
        async with self._database.reading() as session:
            row = await get_experiment_row(session, request.experiment_id)
            [experiment] = await load_experiments(session, [row], call.principal)
        summary = None if row.state in FINAL_STATES else self._summarize_job(row.job_id)
        response = GetExperimentResponse(experiment=experiment, job_summary=summary)
        to_struct(mask_secrets(read_config(row)), response.config)
        return response

    async def GetExperiments(
        self, request: GetExperimentsRequest, call: Call
    ) -> GetExperimentsResponse:
        """List experiments."""
        found = list_experiments(request)
        async with self._database.reading() as session:
            rows, pagination = await load_page(
                session, found, offset=request.offset, limit=request.limit
            )
            experiments = await load_experiments(
                session,
                [row[0] for row in rows],
                call.principal,
                shows_best_trial=request.show_trial_data,
            )
        return GetExperimentsResponse(experiments=experiments, pagination=pagination)

    async def GetExperimentLabels(
        self, request: GetExperimentLabelsRequest, call: Call
    ) -> GetExperimentLabelsResponse:
        """List the labels that experiments have."""
        labels = json_elements(ExperimentRow.labels, [])
        label = labels.c.value
        statement = (
            select(label)
            .select_from(ExperimentRow, labels)
            .group_by(label)
            .order_by(func.count().desc(), label)
        )
        if request.project_id:
            statement = statement.where(ExperimentRow.project_id == request.project_id)
        async with self._database.reading() as session:
            return GetExperimentLabelsResponse(labels=(await session.scalars(statement)).all())

    async def GetExperimentTrials(
        self, request: GetExperimentTrialsRequest, call: Call
    ) -> GetExperimentTrialsResponse:
        """List the trials of an experiment."""
        async with self._database.reading() as session:
            experiment = await get_experiment_row(session, request.experiment_id)
            metric = get_part(read_config(experiment), "searcher").get("metric")
            rows, pagination = await load_page(
                session,
                list_trials(request, metric=str(metric)),
                offset=request.offset,
                limit=request.limit,
            )
            trials = await load_trials(session, [row[0] for row in rows])
        return GetExperimentTrialsResponse(trials=trials, pagination=pagination)

    async def GetTrial(self, request: GetTrialRequest, call: Call) -> GetTrialResponse:
        """Find a trial."""
        async with self._database.reading() as session:
            return GetTrialResponse(trial=await load_trial(session, request.trial_id))

    async def GetTrialByExternalID(
        self, request: GetTrialByExternalIDRequest, call: Call
    ) -> GetTrialByExternalIDResponse:
        """Find a trial by the names that what runs it gave to it and to its experiment."""
        statement = (
            select(TrialRow)
            .join(ExperimentRow, ExperimentRow.id == TrialRow.experiment_id)
            .where(
                ExperimentRow.external_id == request.external_experiment_id,
                TrialRow.external_id == request.external_trial_id,
            )
        )
        async with self._database.reading() as session:
            row = (await session.scalars(statement)).first()
            if row is None:
                raise NotFound("trial", request.external_trial_id)
            [trial] = await load_trials(session, [row])
        return GetTrialByExternalIDResponse(trial=trial)

    def _summarize_job(self, job_id: str) -> JobSummary | None:
        """Find the place of a job in the queue; None when nothing of it waits or runs."""
        open_tasks = [task for task in self._tasks.list_open() if task.job_id == job_id]
        runs = [self._tasks.find_run(task.task_id) for task in open_tasks]
        return view_job_summary([run for run in runs if run is not None]) if open_tasks else None
