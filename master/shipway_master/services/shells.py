"""Shells: an sshd in a task, reached through the master's port."""

from __future__ import annotations

from shipway_master.rpc import Call
from shipway_master.services.interactive import Interactive
from shipway_master.store.database import Database
from shipway_master.structs import to_struct
from shipway_master.tasks.config import dump_config
from shipway_master.tasks.owners import Owner
from shipway_master.tasks.places import Places
from shipway_master.tasks.records import TaskRecord
from shipway_master.tasks.states import TaskType
from shipway_master.tasks.tasks import Tasks
from shipway_master.tasks.views import view_shell
from shipway_proto.determined.api.v1 import shell_pb2 as api
from shipway_proto.determined.api.v1.command_pb2 import LAUNCH_WARNING_CURRENT_SLOTS_EXCEEDED
from shipway_proto.determined.shell.v1.shell_pb2 import Shell


class ShellService:
    """The RPCs of shells."""

    def __init__(self, database: Database, tasks: Tasks, places: Places) -> None:
        self._shells = Interactive(TaskType.SHELL, database=database, tasks=tasks, places=places)

    async def LaunchShell(
        self, request: api.LaunchShellRequest, call: Call
    ) -> api.LaunchShellResponse:
        """Start a shell."""
        draft = await self._shells.launch(request, call)
        response = api.LaunchShellResponse(shell=await self._view(draft.record, call))
        to_struct(dump_config(draft.record.config), response.config)
        if not draft.has_room:
            response.warnings.append(LAUNCH_WARNING_CURRENT_SLOTS_EXCEEDED)
        return response

    async def GetShells(self, request: api.GetShellsRequest, call: Call) -> api.GetShellsResponse:
        """List the shells that live, and those that ended not long ago."""
        page, pagination = await self._shells.list_page(request)
        shells = [self._view_for(one, owner, call) for one, owner in page]
        return api.GetShellsResponse(shells=shells, pagination=pagination)

    async def GetShell(self, request: api.GetShellRequest, call: Call) -> api.GetShellResponse:
        """Find one shell."""
        record = await self._shells.find(request.shell_id)
        response = api.GetShellResponse(shell=await self._view(record, call))
        to_struct(dump_config(record.config), response.config)
        return response

    async def KillShell(self, request: api.KillShellRequest, call: Call) -> api.KillShellResponse:
        """End a shell at once; one that has ended stays as it is."""
        record = await self._shells.kill(request.shell_id, call)
        return api.KillShellResponse(shell=await self._view(record, call))

    async def SetShellPriority(
        self, request: api.SetShellPriorityRequest, call: Call
    ) -> api.SetShellPriorityResponse:
        """Serve a shell before or after others of its pool."""
        record = await self._shells.set_priority(request.shell_id, request.priority, call)
        return api.SetShellPriorityResponse(shell=await self._view(record, call))

    async def _view(self, record: TaskRecord, call: Call) -> Shell:
        return self._view_for(record, await self._shells.tasks.owners.get(record), call)

    def _view_for(self, record: TaskRecord, owner: Owner, call: Call) -> Shell:
        asking = call.principal
        may_enter = asking.is_admin or asking.user_id == record.owner_id
        run = self._shells.tasks.find_run(record.task_id)
        return view_shell(record, owner, run, with_key=may_enter)
