"""Generic tasks: programs that can be paused, pre-empted and started again."""

from __future__ import annotations

import json

from shipway_master.allocations.ids import TaskId
from shipway_master.errors import InvalidArgument
from shipway_master.rpc import Call
from shipway_master.services.files import read_files
from shipway_master.services.told import told
from shipway_master.store.database import Database
from shipway_master.tasks.config import dump_config
from shipway_master.tasks.creation import Wish
from shipway_master.tasks.records import TaskRecord, unpack_files
from shipway_master.tasks.states import TaskType
from shipway_master.tasks.tasks import Tasks, require_generic
from shipway_master.tasks.workspaces import Workspaces
from shipway_proto.determined.api.v1 import task_pb2 as api
from shipway_proto.determined.api.v1.command_pb2 import LAUNCH_WARNING_CURRENT_SLOTS_EXCEEDED

_DEFAULT_PROJECT = 1


class GenericTaskService:
    """The RPCs of generic tasks."""

    def __init__(self, database: Database, tasks: Tasks) -> None:
        self._workspaces = Workspaces(database)
        self._tasks = tasks

    async def CreateGenericTask(
        self, request: api.CreateGenericTaskRequest, call: Call
    ) -> api.CreateGenericTaskResponse:
        """Start a generic task."""
        parent_id = TaskId(request.parent_id) if request.HasField("parent_id") else None
        forked_from = TaskId(request.forked_from) if request.HasField("forked_from") else None
        files = read_files(request.context_directory)
        if request.inherit_context:
            if parent_id is None:
                raise InvalidArgument("inherit_context needs a parent_id to inherit from")
            if files:
                raise InvalidArgument("either inherit_context or send a context, not both")
            await self._find_own(parent_id, call)
            files = unpack_files(await self._tasks.records.load_tgz(parent_id))
        with told():
            terms = await self._workspaces.load_terms_of_project(
                request.project_id or _DEFAULT_PROJECT
            )
        config = request.config
        if forked_from is not None and not config:
            forked = await self._find_own(forked_from, call)
            config = forked.config.model_dump_json(context={"reveal": True})
        wish = Wish(
            task_type=TaskType.GENERIC,
            owner_id=call.principal.user_id,
            terms=terms,
            config=config,
            files=files,
            parent_id=parent_id,
            forked_from=forked_from,
            no_pause=request.no_pause,
        )
        with told():
            draft = await self._tasks.create(wish)
        response = api.CreateGenericTaskResponse(task_id=draft.record.task_id)
        if not draft.has_room:
            response.warnings.append(LAUNCH_WARNING_CURRENT_SLOTS_EXCEEDED)
        return response

    async def GetGenericTaskConfig(
        self, request: api.GetGenericTaskConfigRequest, call: Call
    ) -> api.GetGenericTaskConfigResponse:
        """Give out the configuration of a task, defaults applied, as JSON text."""
        record = await self._find(request.task_id)
        return api.GetGenericTaskConfigResponse(config=json.dumps(dump_config(record.config)))

    async def KillGenericTask(
        self, request: api.KillGenericTaskRequest, call: Call
    ) -> api.KillGenericTaskResponse:
        """End a task at once, with the tasks that it started; or the whole tree it is in."""
        record = await self._find_own(request.task_id, call)
        if request.kill_from_root:
            record = await self._tasks.find_root(record)
            call.principal.require_owner_or_admin(record.owner_id)
        await self._tasks.kill(record, reason="user requested kill")
        return api.KillGenericTaskResponse()

    async def PauseGenericTask(
        self, request: api.PauseGenericTaskRequest, call: Call
    ) -> api.PauseGenericTaskResponse:
        """Have a task leave its resources until it is unpaused."""
        record = await self._find_own(request.task_id, call)
        with told():
            await self._tasks.pause(record)
        return api.PauseGenericTaskResponse()

    async def UnpauseGenericTask(
        self, request: api.UnpauseGenericTaskRequest, call: Call
    ) -> api.UnpauseGenericTaskResponse:
        """Start a paused task again, as its next allocation."""
        record = await self._find_own(request.task_id, call)
        with told():
            await self._tasks.unpause(record)
        return api.UnpauseGenericTaskResponse()

    async def _find(self, task_id: str) -> TaskRecord:
        with told():
            return require_generic(await self._tasks.get(task_id))

    async def _find_own(self, task_id: str, call: Call) -> TaskRecord:
        record = await self._find(task_id)
        call.principal.require_owner_or_admin(record.owner_id)
        return record
