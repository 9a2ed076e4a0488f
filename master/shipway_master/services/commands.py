"""Commands: one program, run once."""

from __future__ import annotations

from shipway_master.rpc import Call
from shipway_master.services.interactive import Interactive
from shipway_master.store.database import Database
from shipway_master.structs import to_struct
from shipway_master.tasks.config import dump_config
from shipway_master.tasks.places import Places
from shipway_master.tasks.records import TaskRecord
from shipway_master.tasks.states import TaskType
from shipway_master.tasks.tasks import Tasks
from shipway_master.tasks.views import view_command
from shipway_proto.determined.api.v1 import command_pb2 as api
from shipway_proto.determined.api.v1.command_pb2 import LAUNCH_WARNING_CURRENT_SLOTS_EXCEEDED
from shipway_proto.determined.command.v1.command_pb2 import Command


class CommandService:
    """The RPCs of commands."""

    def __init__(self, database: Database, tasks: Tasks, places: Places) -> None:
        self._commands = Interactive(
            TaskType.COMMAND, database=database, tasks=tasks, places=places
        )

    async def LaunchCommand(
        self, request: api.LaunchCommandRequest, call: Call
    ) -> api.LaunchCommandResponse:
        """Start a command."""
        draft = await self._commands.launch(request, call)
        response = api.LaunchCommandResponse(command=await self._view(draft.record))
        to_struct(dump_config(draft.record.config), response.config)
        if not draft.has_room:
            response.warnings.append(LAUNCH_WARNING_CURRENT_SLOTS_EXCEEDED)
        return response

    async def GetCommands(
        self, request: api.GetCommandsRequest, call: Call
    ) -> api.GetCommandsResponse:
        """List the commands that live, and those that ended not long ago."""
        page, pagination = await self._commands.list_page(request)
        find_run = self._commands.tasks.find_run
        commands = [view_command(one, owner, find_run(one.task_id)) for one, owner in page]
        return api.GetCommandsResponse(commands=commands, pagination=pagination)

    async def GetCommand(
        self, request: api.GetCommandRequest, call: Call
    ) -> api.GetCommandResponse:
        """Find one command."""
        record = await self._commands.find(request.command_id)
        response = api.GetCommandResponse(command=await self._view(record))
        to_struct(dump_config(record.config), response.config)
        return response

    async def KillCommand(
        self, request: api.KillCommandRequest, call: Call
    ) -> api.KillCommandResponse:
        """End a command at once; one that has ended stays as it is."""
        record = await self._commands.kill(request.command_id, call)
        return api.KillCommandResponse(command=await self._view(record))

    async def SetCommandPriority(
        self, request: api.SetCommandPriorityRequest, call: Call
    ) -> api.SetCommandPriorityResponse:
        """Serve a command before or after others of its pool."""
        record = await self._commands.set_priority(request.command_id, request.priority, call)
        return api.SetCommandPriorityResponse(command=await self._view(record))

    async def _view(self, record: TaskRecord) -> Command:
        owner = await self._commands.tasks.owners.get(record)
        return view_command(record, owner, self._commands.tasks.find_run(record.task_id))
