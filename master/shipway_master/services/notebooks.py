"""Notebooks: JupyterLab in a task, reached through the master's port."""

from __future__ import annotations

from shipway_master.rpc import Call
from shipway_master.services.interactive import Interactive
from shipway_master.store.database import Database
from shipway_master.structs import to_struct
from shipway_master.tasks.config import dump_config
from shipway_master.tasks.idle import IdleWatch
from shipway_master.tasks.owners import Owner
from shipway_master.tasks.places import Places
from shipway_master.tasks.records import TaskRecord
from shipway_master.tasks.states import TaskType
from shipway_master.tasks.tasks import Tasks
from shipway_master.tasks.views import view_notebook
from shipway_proto.determined.api.v1 import notebook_pb2 as api
from shipway_proto.determined.api.v1.command_pb2 import LAUNCH_WARNING_CURRENT_SLOTS_EXCEEDED
from shipway_proto.determined.notebook.v1.notebook_pb2 import Notebook


class NotebookService:
    """The RPCs of notebooks."""

    def __init__(
        self,
        database: Database,
        tasks: Tasks,
        places: Places,
        *,
        idle_watch: IdleWatch,
        idle_timeout_s: float | None,
    ) -> None:
        self._notebooks = Interactive(
            TaskType.NOTEBOOK,
            database=database,
            tasks=tasks,
            places=places,
            idle_timeout_s=idle_timeout_s,
        )
        self._idle_watch = idle_watch

    async def LaunchNotebook(
        self, request: api.LaunchNotebookRequest, call: Call
    ) -> api.LaunchNotebookResponse:
        """Start a notebook."""
        draft = await self._notebooks.launch(request, call, is_preview=request.preview)
        response = api.LaunchNotebookResponse(notebook=await self._view(draft.record, call))
        to_struct(dump_config(draft.record.config), response.config)
        if not draft.has_room:
            response.warnings.append(LAUNCH_WARNING_CURRENT_SLOTS_EXCEEDED)
        return response

    async def GetNotebooks(
        self, request: api.GetNotebooksRequest, call: Call
    ) -> api.GetNotebooksResponse:
        """List the notebooks that live, and those that ended not long ago."""
        page, pagination = await self._notebooks.list_page(request)
        notebooks = [self._view_for(one, owner, call) for one, owner in page]
        return api.GetNotebooksResponse(notebooks=notebooks, pagination=pagination)

    async def GetNotebook(
        self, request: api.GetNotebookRequest, call: Call
    ) -> api.GetNotebookResponse:
        """Find one notebook."""
        record = await self._notebooks.find(request.notebook_id)
        response = api.GetNotebookResponse(notebook=await self._view(record, call))
        to_struct(dump_config(record.config), response.config)
        return response

    async def IdleNotebook(
        self, request: api.IdleNotebookRequest, call: Call
    ) -> api.IdleNotebookResponse:
        """Hear from inside a notebook whether it is in use."""
        record = await self._notebooks.find(request.notebook_id)
        call.principal.require_owner_or_admin(record.owner_id)
        self._idle_watch.note_report(record.task_id, is_idle=request.idle)
        return api.IdleNotebookResponse()

    async def KillNotebook(
        self, request: api.KillNotebookRequest, call: Call
    ) -> api.KillNotebookResponse:
        """End a notebook at once; one that has ended stays as it is."""
        record = await self._notebooks.kill(request.notebook_id, call)
        return api.KillNotebookResponse(notebook=await self._view(record, call))

    async def SetNotebookPriority(
        self, request: api.SetNotebookPriorityRequest, call: Call
    ) -> api.SetNotebookPriorityResponse:
        """Serve a notebook before or after others of its pool."""
        record = await self._notebooks.set_priority(request.notebook_id, request.priority, call)
        return api.SetNotebookPriorityResponse(notebook=await self._view(record, call))

    async def _view(self, record: TaskRecord, call: Call) -> Notebook:
        return self._view_for(record, await self._notebooks.tasks.owners.get(record), call)

    def _view_for(self, record: TaskRecord, owner: Owner, call: Call) -> Notebook:
        asking = call.principal
        may_enter = asking.is_admin or asking.user_id == record.owner_id
        run = self._notebooks.tasks.find_run(record.task_id)
        return view_notebook(record, owner, run, with_token=may_enter)
