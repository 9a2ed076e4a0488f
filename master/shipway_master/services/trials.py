"""Trials: ended, and what their own processes say of them; and trials that run elsewhere."""

from __future__ import annotations

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from shipway_master.checkpoints.latest import find_latest
from shipway_master.errors import InvalidArgument
from shipway_master.experiments.errors import TrialNotFound
from shipway_master.experiments.experiments import Experiments
from shipway_master.experiments.records import ExperimentRecord, TrialRecord
from shipway_master.experiments.states import RunState
from shipway_master.experiments.unmanaged import UnmanagedTrials
from shipway_master.queries.loading import load_trial
from shipway_master.rpc import Call
from shipway_master.services.actions import ExperimentActions
from shipway_master.services.told import told
from shipway_master.store.database import Database
from shipway_master.store.experiments import TrialRow
from shipway_master.structs import to_plain
from shipway_master.trialmetrics.facts import KnownTrials
from shipway_proto.determined.api.v1 import trial_pb2 as api
from shipway_proto.determined.trial.v1 import trial_pb2

_MAX_TEXT = 1000
"""Characters of what a trial says of its state."""
_GAVE_UP = {
    trial_pb2.TrialEarlyExit.EXITED_REASON_INVALID_HP: "INVALID_HP",
    trial_pb2.TrialEarlyExit.EXITED_REASON_INIT_INVALID_HP: "INIT_INVALID_HP",
}


class TrialService:
    """The RPCs of the lives of trials; what they measured is in `trialreports`."""

    def __init__(
        self,
        database: Database,
        experiments: Experiments,
        actions: ExperimentActions,
        unmanaged: UnmanagedTrials,
        known: KnownTrials,
    ) -> None:
        self._database = database
        self._experiments, self._actions = experiments, actions
        self._unmanaged = unmanaged
        self._known = known

    async def KillTrial(self, request: api.KillTrialRequest, call: Call) -> api.KillTrialResponse:
        """End a trial at once; one that has ended stays as it is."""
        experiment, trial = await self._find(request.id, call)
        await self._actions.kill_trial(experiment.id, trial.id, call.principal)
        return api.KillTrialResponse()

    # what its processes say

    async def ReportTrialProgress(
        self, request: api.ReportTrialProgressRequest, call: Call
    ) -> api.ReportTrialProgressResponse:
        """Hear how much of its work a trial has done, as a fraction."""
        facts = await self._known.get_for_report(request.trial_id, call.principal)
        if not 0 <= request.progress <= 1:
            raise InvalidArgument(
                f"progress must be a fraction from 0 to 1, and is {request.progress}"
            )
        statement = update(TrialRow).where(TrialRow.id == request.trial_id)
        async with self._database.writing() as session:
            await session.execute(statement.values(progress=request.progress))
        await self._experiments.progressed(facts.experiment_id, request.trial_id, request.progress)
        return api.ReportTrialProgressResponse()

    async def ReportTrialSearcherEarlyExit(
        self, request: api.ReportTrialSearcherEarlyExitRequest, call: Call
    ) -> api.ReportTrialSearcherEarlyExitResponse:
        """Hear that a trial cannot go on with the hyperparameters that it was given."""
        facts = await self._known.get_for_report(request.trial_id, call.principal)
        reason = _GAVE_UP.get(request.early_exit.reason)
        if reason is None:
            raise InvalidArgument("reason must be EXITED_REASON_INVALID_HP or ..._INIT_INVALID_HP")
        await self._experiments.left_early(facts.experiment_id, request.trial_id, reason)
        return api.ReportTrialSearcherEarlyExitResponse()

    async def PostTrialRunnerMetadata(
        self, request: api.PostTrialRunnerMetadataRequest, call: Call
    ) -> api.PostTrialRunnerMetadataResponse:
        """Hear what a trial is doing, in its own words."""
        await self._known.get_for_report(request.trial_id, call.principal)
        statement = update(TrialRow).where(TrialRow.id == request.trial_id)
        async with self._database.writing() as session:
            await session.execute(statement.values(runner_state=request.metadata.state[:_MAX_TEXT]))
        return api.PostTrialRunnerMetadataResponse()

    # trials that run elsewhere

    async def CreateTrial(
        self, request: api.CreateTrialRequest, call: Call
    ) -> api.CreateTrialResponse:
        """Make a trial that runs elsewhere."""
        trial = await self._create(request, call)
        return api.CreateTrialResponse(trial=await self._view(trial))

    async def PutTrial(self, request: api.PutTrialRequest, call: Call) -> api.PutTrialResponse:
        """Find the trial that its user knows by a name of his own, or make it."""
        if not request.external_trial_id:
            raise InvalidArgument("external_trial_id is empty")
        wish = request.create_trial_request
        experiment = await self._find_experiment(wish.experiment_id, call)
        trial = await self._unmanaged.find_by_external_id(experiment, request.external_trial_id)
        if trial is None:
            try:
                trial = await self._create(wish, call, external_id=request.external_trial_id)
            except IntegrityError:  # another process of it said the same just now
                trial = await self._unmanaged.find_by_external_id(
                    experiment, request.external_trial_id
                )
                if trial is None:
                    raise
        return api.PutTrialResponse(trial=await self._view(trial))

    async def PatchTrial(
        self, request: api.PatchTrialRequest, call: Call
    ) -> api.PatchTrialResponse:
        """Take a sign of life of a trial that runs elsewhere, or what has become of it."""
        await self._known.get_for_report(request.trial_id, call.principal)
        experiment, trial = await self._find(request.trial_id, call)
        state = None
        if request.HasField("state"):
            state = _read_state(request.state)
        with told():
            await self._unmanaged.report(experiment, trial, state)
        return api.PatchTrialResponse(trial=await self._view(trial))

    async def StartTrial(
        self, request: api.StartTrialRequest, call: Call
    ) -> api.StartTrialResponse:
        """Begin a run of a trial that runs elsewhere."""
        await self._known.get_for_report(request.trial_id, call.principal)
        experiment, trial = await self._find(request.trial_id, call)
        with told():
            run = await self._unmanaged.start(experiment, trial)
        response = api.StartTrialResponse(trial_run_id=run)
        latest = await find_latest(self._database, trial.id) if request.resume else None
        if latest is not None:
            response.latest_checkpoint, response.steps_completed = latest
        return response

    async def _create(
        self, request: api.CreateTrialRequest, call: Call, *, external_id: str | None = None
    ) -> TrialRecord:
        if not request.unmanaged:
            raise InvalidArgument(
                "unmanaged must be true: other trials are made by the search of their experiment"
            )
        experiment = await self._find_experiment(request.experiment_id, call)
        with told():
            return await self._unmanaged.create(
                experiment, to_plain(request.hparams), external_id=external_id
            )

    async def _find_experiment(self, experiment_id: int, call: Call) -> ExperimentRecord:
        with told():
            record = await self._experiments.load_record(experiment_id)
        call.principal.require_owner_or_admin(record.owner_id)
        return record

    async def _find(self, trial_id: int, call: Call) -> tuple[ExperimentRecord, TrialRecord]:
        """Find a trial of the caller's."""
        with told():
            trial = await self._experiments.records.load_trial(trial_id)
            if trial is None:
                raise TrialNotFound(trial_id)
        return await self._find_experiment(trial.experiment_id, call), trial

    async def _view(self, trial: TrialRecord) -> trial_pb2.Trial:
        async with self._database.reading() as session:
            return await load_trial(session, trial.id)


def _read_state(number: trial_pb2.State.ValueType) -> RunState:
    """Read a state that a trial reports; one that runs is active."""
    if number not in trial_pb2.State.values():
        raise InvalidArgument(f"there is no state {number}")
    name = trial_pb2.State.Name(number).removeprefix("STATE_")
    if name in ("RUNNING", "STARTING", "PULLING", "QUEUED"):
        return RunState.ACTIVE
    try:
        return RunState(name)
    except ValueError as error:
        raise InvalidArgument(f"a trial cannot report the state {name}") from error
