"""What commands, shells and the like have in common: started, found, listed, ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from google.protobuf.struct_pb2 import Struct

from shipway_master.pages import cut_page
from shipway_master.policies.model import Workload
from shipway_master.policies.records import PolicyRecords
from shipway_master.rpc import Call
from shipway_master.services.files import read_files
from shipway_master.services.templates import complete_config
from shipway_master.services.told import told
from shipway_master.store.database import Database
from shipway_master.structs import to_plain
from shipway_master.tasks.creation import Draft, Wish
from shipway_master.tasks.errors import TaskNotFound
from shipway_master.tasks.owners import Owner
from shipway_master.tasks.places import Places
from shipway_master.tasks.records import TaskRecord
from shipway_master.tasks.states import TaskType
from shipway_master.tasks.tasks import Tasks
from shipway_master.tasks.workspaces import Workspaces
from shipway_proto.determined.api.v1.command_pb2 import GetCommandsRequest
from shipway_proto.determined.api.v1.pagination_pb2 import ORDER_BY_DESC, Pagination

_DEFAULT_WORKSPACE = 1


class LaunchRequest(Protocol):
    """The fields that all requests for a start have."""

    template_name: str
    workspace_id: int

    @property
    def config(self) -> Struct:
        """The configuration as the user wrote it."""
        ...

    @property
    def files(self) -> Any:
        """The user's files."""
        ...


class ListRequest(Protocol):
    """The fields that all requests for a list have; the numbers of `sort_by` are the same."""

    offset: int
    limit: int
    workspace_id: int

    @property
    def users(self) -> Sequence[str]:
        """Names of owners; empty for all."""
        ...

    @property
    def user_ids(self) -> Sequence[int]:
        """Ids of owners; empty for all."""
        ...

    @property
    def sort_by(self) -> int:
        """By what the list is ordered."""
        ...

    @property
    def order_by(self) -> int:
        """Which end comes first."""
        ...


class Interactive:
    """The tasks of one type, as its service needs them."""

    def __init__(
        self,
        task_type: TaskType,
        *,
        database: Database,
        tasks: Tasks,
        places: Places,
        idle_timeout_s: float | None = None,
    ) -> None:
        self._type = task_type
        self._kind = task_type.value.lower()
        self._database = database
        self._workspaces = Workspaces(database)
        self._policies = PolicyRecords(database)
        self._places = places
        self._idle_timeout_s = idle_timeout_s
        self.tasks = tasks

    async def launch(
        self, request: LaunchRequest, call: Call, *, is_preview: bool = False
    ) -> Draft:
        """Start one; a preview is only checked."""
        wish = await self.make_wish(request, call)
        with told():
            return self.tasks.draft(wish) if is_preview else await self.tasks.create(wish)

    async def make_wish(self, request: LaunchRequest, call: Call) -> Wish:
        """Put together what is asked for, with the template that it names."""
        with told():
            terms = await self._workspaces.load_terms(request.workspace_id or _DEFAULT_WORKSPACE)
        rules = await self._policies.load_rules(terms.workspace_id, Workload.NTSC)
        config = await complete_config(
            self._database, request.template_name, to_plain(request.config)
        )
        return Wish(
            task_type=self._type,
            owner_id=call.principal.user_id,
            terms=terms,
            limits=rules,
            config=rules.govern_task(config),
            files=read_files(request.files),
            idle_timeout_s=self._idle_timeout_s,
        )

    async def list_page(
        self, request: ListRequest
    ) -> tuple[Sequence[tuple[TaskRecord, Owner]], Pagination]:
        """List those that live, and those that ended not long ago."""
        records = await self.tasks.list_recent(self._type)
        owners = await self.tasks.owners.load(records)
        wanted = [
            (record, owner)
            for record, owner in zip(records, owners, strict=True)
            if _is_of_wanted_user(record, owner, request)
            and (not request.workspace_id or record.workspace_id == request.workspace_id)
        ]
        wanted.sort(key=lambda one: _sort_key(one[0], request.sort_by))
        if request.order_by == ORDER_BY_DESC:
            wanted.reverse()
        return cut_page(wanted, offset=request.offset, limit=request.limit)

    async def find(self, task_id: str) -> TaskRecord:
        """Find one, live or not."""
        with told():
            record = await self.tasks.get(task_id, kind=self._kind)
            if record.task_type is not self._type:
                raise TaskNotFound(self._kind, task_id)
        return record

    async def kill(self, task_id: str, call: Call) -> TaskRecord:
        """End one at once; one that has ended stays as it is."""
        record = await self.find(task_id)
        call.principal.require_owner_or_admin(record.owner_id)
        await self.tasks.kill(record, reason="user requested kill")
        return record

    async def set_priority(self, task_id: str, priority: int, call: Call) -> TaskRecord:
        """Serve one before or after others of its pool."""
        record = await self.find(task_id)
        call.principal.require_owner_or_admin(record.owner_id)
        with told():
            await self._places.set_priority(record, priority)
        return record


def _is_of_wanted_user(record: TaskRecord, owner: Owner, request: ListRequest) -> bool:
    """Of two lists of users, to be in one is enough."""
    if not request.users and not request.user_ids:
        return True
    return owner.username in request.users or record.owner_id in request.user_ids


def _sort_key(record: TaskRecord, sort_by: int) -> tuple[Any, ...]:
    match sort_by:
        case GetCommandsRequest.SORT_BY_DESCRIPTION:
            return record.description, record.task_id
        case GetCommandsRequest.SORT_BY_START_TIME:
            return record.started_at, record.task_id
        case GetCommandsRequest.SORT_BY_WORKSPACE_ID:
            return record.workspace_id, record.task_id
        case _:
            return (record.task_id,)
