"""Experiments: made, started, stopped, changed, and their code given out."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy.exc import IntegrityError

from shipway_master.cluster.cluster import Cluster
from shipway_master.errors import InvalidArgument, NotFound
from shipway_master.experiments.changes import ExperimentChanges
from shipway_master.experiments.config import mask_secrets
from shipway_master.experiments.creation import Plan, Wish, draft_experiment, plan_experiment
from shipway_master.experiments.experiments import Experiments
from shipway_master.experiments.modeldef import Entry, list_entries, read_file
from shipway_master.experiments.placement import Placement
from shipway_master.experiments.records import ExperimentRecord
from shipway_master.experiments.warmstart import WarmStart
from shipway_master.policies.model import Workload
from shipway_master.policies.records import PolicyRecords
from shipway_master.queries.loading import load_experiment
from shipway_master.rpc import Call
from shipway_master.services.actions import ExperimentActions
from shipway_master.services.files import read_files
from shipway_master.services.templates import load_template
from shipway_master.services.told import told
from shipway_master.store.database import Database
from shipway_master.structs import to_struct
from shipway_proto.determined.api.v1 import experiment_pb2 as api
from shipway_proto.determined.api.v1.command_pb2 import LAUNCH_WARNING_CURRENT_SLOTS_EXCEEDED
from shipway_proto.determined.experiment.v1.experiment_pb2 import Experiment, FileNode


class ExperimentService:
    """The RPCs that make experiments and act on one of them; reading is in `experimentlists`."""

    def __init__(
        self,
        database: Database,
        experiments: Experiments,
        changes: ExperimentChanges,
        actions: ExperimentActions,
        cluster: Cluster,
        placement: Placement,
    ) -> None:
        self._database = database
        self._experiments = experiments
        self._changes, self._actions = changes, actions
        self._cluster = cluster
        self._placement = placement
        self._policies = PolicyRecords(database)
        self._warm_start = WarmStart(database)

    # made

    async def CreateExperiment(
        self, request: api.CreateExperimentRequest, call: Call
    ) -> api.CreateExperimentResponse:
        """Start an experiment, or only check whether it could be."""
        plan = await self._plan(request, call)
        response = api.CreateExperimentResponse()
        to_struct(plan.config.to_plain(reveal=False), response.config)
        if not plan.has_room:
            response.warnings.append(LAUNCH_WARNING_CURRENT_SLOTS_EXCEEDED)
        if request.validate_only:
            return response
        with told():
            record = await self._experiments.create(plan, is_active=request.activate)
        response.experiment.CopyFrom(await self._view(record, call))
        return response

    async def PutExperiment(
        self, request: api.PutExperimentRequest, call: Call
    ) -> api.PutExperimentResponse:
        """Find the experiment that its user knows by a name of his own, or make it."""
        external_id = request.external_experiment_id
        if not external_id:
            raise InvalidArgument("external_experiment_id is empty")
        record = await self._experiments.records.load_by_external_id(external_id)
        if record is None:
            plan = await self._plan(
                request.create_experiment_request, call, external_id=external_id
            )
            try:
                record = await self._experiments.create(plan, is_active=True)
            except IntegrityError:  # somebody else said the same just now
                record = await self._experiments.records.load_by_external_id(external_id)
                if record is None:
                    raise
        call.principal.require_owner_or_admin(record.owner_id)
        response = api.PutExperimentResponse(experiment=await self._view(record, call))
        to_struct(mask_secrets(record.config), response.config)
        return response

    async def ContinueExperiment(
        self, request: api.ContinueExperimentRequest, call: Call
    ) -> api.ContinueExperimentResponse:
        """Let an experiment that has ended train on, from the checkpoints that it has."""
        record = await self._find(request.id, call)
        with told():
            await self._changes.go_on(record, request.override_config)
        return api.ContinueExperimentResponse(experiment=await self._view(record, call))

    async def _plan(
        self,
        request: api.CreateExperimentRequest,
        call: Call,
        *,
        external_id: str | None = None,
    ) -> Plan:
        template, parent_tgz = None, b""
        if request.template:
            template = await load_template(self._database, request.template)
        with told():
            if request.parent_id:
                parent = await self._experiments.load_record(request.parent_id)
                parent_tgz = (await self._experiments.records.load_files(parent.id)).tgz
            draft = await asyncio.to_thread(draft_experiment, request.config, template)
            place = await self._placement.find(
                request.project_id, workspace=draft.workspace, project=draft.project
            )
            rules = await self._policies.load_rules(place.terms.workspace_id, Workload.EXPERIMENT)
            draft = await asyncio.to_thread(rules.govern_experiment, draft)
            wish = Wish(
                owner_id=call.principal.user_id,
                project_id=place.project_id,
                terms=place.terms,
                text=request.config,
                draft=draft,
                files=read_files(request.model_definition),
                parent_id=request.parent_id or None,
                parent_tgz=parent_tgz,
                unmanaged=request.unmanaged,
                external_id=external_id,
                storages=place.storages,
            )
            plan = await asyncio.to_thread(plan_experiment, wish, self._cluster)
            source = await self._warm_start.find_source(plan.record.config)
            return replace(plan, source_checkpoint=source)

    # started and stopped

    async def ActivateExperiment(
        self, request: api.ActivateExperimentRequest, call: Call
    ) -> api.ActivateExperimentResponse:
        """Let the trials of an experiment run."""
        await self._actions.activate(request.id, call.principal)
        return api.ActivateExperimentResponse()

    async def PauseExperiment(
        self, request: api.PauseExperimentRequest, call: Call
    ) -> api.PauseExperimentResponse:
        """Have the trials of an experiment leave their resources until it is activated."""
        await self._actions.pause(request.id, call.principal)
        return api.PauseExperimentResponse()

    async def CancelExperiment(
        self, request: api.CancelExperimentRequest, call: Call
    ) -> api.CancelExperimentResponse:
        """Have the trials of an experiment end in good order; one that has ended stays as it is."""
        await self._actions.cancel(request.id, call.principal)
        return api.CancelExperimentResponse()

    async def KillExperiment(
        self, request: api.KillExperimentRequest, call: Call
    ) -> api.KillExperimentResponse:
        """End the trials of an experiment at once; one that has ended stays as it is."""
        await self._actions.kill(request.id, call.principal)
        return api.KillExperimentResponse()

    async def DeleteExperiment(
        self, request: api.DeleteExperimentRequest, call: Call
    ) -> api.DeleteExperimentResponse:
        """Begin to delete an experiment that has ended, with its checkpoints."""
        await self._actions.delete(request.experiment_id, call.principal)
        return api.DeleteExperimentResponse()

    # changed

    async def PatchExperiment(
        self, request: api.PatchExperimentRequest, call: Call
    ) -> api.PatchExperimentResponse:
        """Change what an experiment is called, what it may use, or which checkpoints it keeps."""
        record = await self._find(request.experiment.id, call)
        with told():
            await self._changes.patch(record, request.experiment)
        return api.PatchExperimentResponse(experiment=await self._view(record, call))

    # its code

    async def GetModelDef(
        self, request: api.GetModelDefRequest, call: Call
    ) -> api.GetModelDefResponse:
        """Give out the code of an experiment."""
        tgz = await self._load_code(request.experiment_id)
        return api.GetModelDefResponse(b64_tgz=base64.b64encode(tgz).decode())

    async def GetModelDefTree(
        self, request: api.GetModelDefTreeRequest, call: Call
    ) -> api.GetModelDefTreeResponse:
        """List the files of an experiment's code."""
        tgz = await self._load_code(request.experiment_id)
        entries = await asyncio.to_thread(list_entries, tgz)
        return api.GetModelDefTreeResponse(files=_make_tree(entries))

    async def GetModelDefFile(
        self, request: api.GetModelDefFileRequest, call: Call
    ) -> api.GetModelDefFileResponse:
        """Give out one file of an experiment's code."""
        tgz = await self._load_code(request.experiment_id)
        with told():
            content = await asyncio.to_thread(read_file, tgz, request.path)
        if content is None:
            raise NotFound("file", request.path)
        return api.GetModelDefFileResponse(file=content)

    async def _load_code(self, experiment_id: int) -> bytes:
        with told():
            record = await self._experiments.load_record(experiment_id)
        return (await self._experiments.records.load_files(record.id)).tgz

    async def _find(self, experiment_id: int, call: Call) -> ExperimentRecord:
        """Find an experiment of the caller's."""
        with told():
            record = await self._experiments.load_record(experiment_id)
        call.principal.require_owner_or_admin(record.owner_id)
        return record

    async def _view(self, record: ExperimentRecord, call: Call) -> Experiment:
        async with self._database.reading() as session:
            return await load_experiment(session, record.id, call.principal)


def _make_tree(entries: list[Entry]) -> list[FileNode]:
    """Put entries, sorted by path, below the folders that they lie in."""
    roots: list[FileNode] = []
    folders: dict[str, FileNode] = {}
    for entry in entries:
        parent, _, name = entry.path.rpartition("/")
        moment = Timestamp()
        moment.FromDatetime(entry.modified_at)
        node = FileNode(
            path=entry.path,
            name=name,
            modified_time=moment,
            content_length=entry.size_bytes,
            is_dir=entry.is_folder,
            content_type=entry.content_type,
        )
        if parent:
            folders[parent].files.append(node)
            node = folders[parent].files[-1]
        else:
            roots.append(node)
        if entry.is_folder:
            folders[entry.path] = node
    return roots
