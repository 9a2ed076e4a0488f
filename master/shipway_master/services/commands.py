"""Commands: one program, run once."""

from __future__ import annotations

from sqlalchemy import select

from shipway_master.errors import NotFound
from shipway_master.pages import cut_page
from shipway_master.rpc import Call
from shipway_master.services.files import read_files
from shipway_master.services.templates import complete_config
from shipway_master.services.told import told
from shipway_master.store.database import Database
from shipway_master.store.workspaces import WorkspaceRow
from shipway_master.structs import to_plain, to_struct
from shipway_master.tasks.config import dump_config
from shipway_master.tasks.creation import Wish
from shipway_master.tasks.errors import TaskNotFound
from shipway_master.tasks.records import TaskRecord
from shipway_master.tasks.states import TaskType
from shipway_master.tasks.tasks import Tasks
from shipway_master.tasks.views import view_command
from shipway_proto.determined.api.v1 import command_pb2 as api
from shipway_proto.determined.api.v1.command_pb2 import LAUNCH_WARNING_CURRENT_SLOTS_EXCEEDED
from shipway_proto.determined.api.v1.pagination_pb2 import ORDER_BY_DESC
from shipway_proto.determined.command.v1.command_pb2 import Command

_DEFAULT_WORKSPACE = 1


class CommandService:
    """The RPCs of commands."""

    def __init__(self, database: Database, tasks: Tasks) -> None:
        self._database = database
        self._tasks = tasks

    async def LaunchCommand(
        self, request: api.LaunchCommandRequest, call: Call
    ) -> api.LaunchCommandResponse:
        """Start a command."""
        workspace_id = request.workspace_id or _DEFAULT_WORKSPACE
        await self._require_workspace(workspace_id)
        wish = Wish(
            task_type=TaskType.COMMAND,
            owner_id=call.principal.user_id,
            workspace_id=workspace_id,
            config=await complete_config(
                self._database, request.template_name, to_plain(request.config)
            ),
            files=read_files(request.files),
        )
        with told():
            draft = await self._tasks.create(wish)
        response = api.LaunchCommandResponse(command=await self._view(draft.record))
        to_struct(dump_config(draft.record.config), response.config)
        if not draft.has_room:
            response.warnings.append(LAUNCH_WARNING_CURRENT_SLOTS_EXCEEDED)
        return response

    async def GetCommands(
        self, request: api.GetCommandsRequest, call: Call
    ) -> api.GetCommandsResponse:
        """List the commands that live, and those that ended not long ago."""
        records = await self._tasks.list_recent(TaskType.COMMAND)
        owners = await self._tasks.owners.load({record.owner_id for record in records})
        commands = [
            view_command(one, owners[one.owner_id], self._tasks.find_run(one.task_id))
            for one in records
        ]
        commands = [command for command in commands if _is_wanted(command, request)]
        commands.sort(key=lambda one: _sort_key(one, request))
        if request.order_by == ORDER_BY_DESC:
            commands.reverse()
        page, pagination = cut_page(commands, offset=request.offset, limit=request.limit)
        return api.GetCommandsResponse(commands=page, pagination=pagination)

    async def GetCommand(
        self, request: api.GetCommandRequest, call: Call
    ) -> api.GetCommandResponse:
        """Find one command."""
        record = await self._find(request.command_id)
        response = api.GetCommandResponse(command=await self._view(record))
        to_struct(dump_config(record.config), response.config)
        return response

    async def KillCommand(
        self, request: api.KillCommandRequest, call: Call
    ) -> api.KillCommandResponse:
        """End a command at once; one that has ended stays as it is."""
        record = await self._find(request.command_id)
        call.principal.require_owner_or_admin(record.owner_id)
        await self._tasks.kill(record, reason="user requested kill")
        return api.KillCommandResponse(command=await self._view(record))

    async def _find(self, command_id: str) -> TaskRecord:
        with told():
            record = await self._tasks.get(command_id, kind="command")
            if record.task_type is not TaskType.COMMAND:
                raise TaskNotFound("command", command_id)
        return record

    async def _view(self, record: TaskRecord) -> Command:
        owner = await self._tasks.owners.get(record.owner_id)
        return view_command(record, owner, self._tasks.find_run(record.task_id))

    async def _require_workspace(self, workspace_id: int) -> None:
        statement = select(WorkspaceRow.id).where(WorkspaceRow.id == workspace_id)
        async with self._database.reading() as session:
            found = await session.scalar(statement)
        if found is None:
            raise NotFound("workspace", workspace_id)


def _is_wanted(command: Command, request: api.GetCommandsRequest) -> bool:
    return (
        (not request.users or command.username in request.users)
        and (not request.user_ids or command.user_id in request.user_ids)
        and (not request.workspace_id or command.workspace_id == request.workspace_id)
    )


def _sort_key(command: Command, request: api.GetCommandsRequest) -> tuple[object, ...]:
    match request.sort_by:
        case api.GetCommandsRequest.SORT_BY_DESCRIPTION:
            return command.description, command.id
        case api.GetCommandsRequest.SORT_BY_START_TIME:
            return command.start_time.ToNanoseconds(), command.id
        case api.GetCommandsRequest.SORT_BY_WORKSPACE_ID:
            return command.workspace_id, command.id
        case _:
            return (command.id,)
