"""TensorBoards over experiments and trials, reached through the master's port."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from shipway_master.identity import Identity
from shipway_master.rpc import Call
from shipway_master.services.interactive import Interactive
from shipway_master.services.told import told
from shipway_master.store.database import Database
from shipway_master.structs import to_struct
from shipway_master.tasks.config import dump_config
from shipway_master.tasks.owners import Owner
from shipway_master.tasks.places import Places
from shipway_master.tasks.records import TaskRecord, TaskRecords, pack_files
from shipway_master.tasks.states import TaskType
from shipway_master.tasks.tasks import Tasks
from shipway_master.tasks.views import view_tensorboard
from shipway_master.tensorboards.board import plan_board
from shipway_master.tensorboards.caretaker import TensorboardCaretaker
from shipway_master.tensorboards.records import TensorboardRecords
from shipway_proto.determined.api.v1 import tensorboard_pb2 as api
from shipway_proto.determined.api.v1.command_pb2 import LAUNCH_WARNING_CURRENT_SLOTS_EXCEEDED
from shipway_proto.determined.tensorboard.v1.tensorboard_pb2 import Tensorboard


class TensorboardService:
    """The RPCs of TensorBoards; made before the tasks of an earlier process are taken up."""

    def __init__(
        self,
        database: Database,
        tasks: Tasks,
        places: Places,
        *,
        identity: Identity,
        idle_timeout_s: float | None,
    ) -> None:
        self._tensorboards = Interactive(
            TaskType.TENSORBOARD,
            database=database,
            tasks=tasks,
            places=places,
            idle_timeout_s=idle_timeout_s,
        )
        self._tasks = tasks
        self._cluster_id = identity.cluster_id
        self._records = TensorboardRecords(database)
        caretaker = TensorboardCaretaker(self._records, TaskRecords(database))
        tasks.entrust(TaskType.TENSORBOARD, caretaker)

    async def LaunchTensorboard(
        self, request: api.LaunchTensorboardRequest, call: Call
    ) -> api.LaunchTensorboardResponse:
        """Start a TensorBoard."""
        wish = await self._tensorboards.make_wish(request, call)
        sources = await self._records.find_sources(
            list(dict.fromkeys(request.experiment_ids)),
            list(dict.fromkeys(request.trial_ids)),
            request.filters if request.HasField("filters") else None,
        )
        with told():
            plan = plan_board(sources, self._cluster_id)
            config = plan.complete(cast("dict[str, Any]", wish.config))
            draft = self._tasks.draft(replace(wish, config=config))
            tgz = await asyncio.to_thread(pack_files, draft.files)
            await self._records.add(draft.record.task_id, plan.board)
            await self._tasks.start(draft.record, tgz)
        response = api.LaunchTensorboardResponse(tensorboard=await self._view(draft.record))
        to_struct(dump_config(draft.record.config), response.config)
        if not draft.has_room:
            response.warnings.append(LAUNCH_WARNING_CURRENT_SLOTS_EXCEEDED)
        return response

    async def GetTensorboards(
        self, request: api.GetTensorboardsRequest, call: Call
    ) -> api.GetTensorboardsResponse:
        """List the TensorBoards that live, and those that ended not long ago."""
        page, pagination = await self._tensorboards.list_page(request)
        return api.GetTensorboardsResponse(
            tensorboards=await self._view_all(page), pagination=pagination
        )

    async def GetTensorboard(
        self, request: api.GetTensorboardRequest, call: Call
    ) -> api.GetTensorboardResponse:
        """Find one TensorBoard."""
        record = await self._tensorboards.find(request.tensorboard_id)
        response = api.GetTensorboardResponse(tensorboard=await self._view(record))
        to_struct(dump_config(record.config), response.config)
        return response

    async def KillTensorboard(
        self, request: api.KillTensorboardRequest, call: Call
    ) -> api.KillTensorboardResponse:
        """End a TensorBoard at once; one that has ended stays as it is."""
        record = await self._tensorboards.kill(request.tensorboard_id, call)
        return api.KillTensorboardResponse(tensorboard=await self._view(record))

    async def SetTensorboardPriority(
        self, request: api.SetTensorboardPriorityRequest, call: Call
    ) -> api.SetTensorboardPriorityResponse:
        """Serve a TensorBoard before or after others of its pool."""
        found = await self._tensorboards.set_priority(
            request.tensorboard_id, request.priority, call
        )
        return api.SetTensorboardPriorityResponse(tensorboard=await self._view(found))

    async def _view(self, record: TaskRecord) -> Tensorboard:
        owner = await self._tasks.owners.get(record)
        return (await self._view_all([(record, owner)]))[0]

    async def _view_all(self, found: Sequence[tuple[TaskRecord, Owner]]) -> list[Tensorboard]:
        boards = await self._records.load([record.task_id for record, _ in found])
        return [
            view_tensorboard(
                record,
                owner,
                self._tasks.find_run(record.task_id),
                experiment_ids=boards[record.task_id].experiment_ids,
                trial_ids=boards[record.task_id].trial_ids,
            )
            for record, owner in found
        ]
