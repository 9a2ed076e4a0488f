"""Tasks of all types."""

from __future__ import annotations

import base64
from collections import Counter

from sqlalchemy import select

from shipway_master.allocations.live import Allocations
from shipway_master.rpc import Call
from shipway_master.services.told import told
from shipway_master.store.database import Database
from shipway_master.store.tasks import AcceleratorRow
from shipway_master.tasks.tasks import Tasks
from shipway_master.tasks.views import view_summary, view_task
from shipway_proto.determined.api.v1 import task_pb2 as api
from shipway_proto.determined.api.v1.trial_pb2 import AcceleratorData


class TaskService:
    """The RPCs of tasks."""

    def __init__(self, database: Database, tasks: Tasks, allocations: Allocations) -> None:
        self._database = database
        self._tasks = tasks
        self._allocations = allocations

    async def GetTask(self, request: api.GetTaskRequest, call: Call) -> api.GetTaskResponse:
        """Find a task, its runs newest first."""
        with told():
            record = await self._tasks.get(request.task_id)
        runs = await self._allocations.records.load_of_tasks([record.task_id])
        live = self._tasks.find_run(record.task_id)
        shown = [live.record if live and live.id == one.allocation_id else one for one in runs]
        return api.GetTaskResponse(task=view_task(record, shown))

    async def GetTasks(self, request: api.GetTasksRequest, call: Call) -> api.GetTasksResponse:
        """List the live runs of all tasks."""
        response = api.GetTasksResponse()
        for allocation in self._allocations.all:
            summary = response.allocation_id_to_summary[allocation.id]
            summary.CopyFrom(view_summary(allocation))
        return response

    async def GetActiveTasksCount(
        self, request: api.GetActiveTasksCountRequest, call: Call
    ) -> api.GetActiveTasksCountResponse:
        """Count the tasks that people use directly and that have not ended."""
        counts = Counter(record.task_type.value for record in self._tasks.list_open())
        return api.GetActiveTasksCountResponse(
            commands=counts["COMMAND"],
            notebooks=counts["NOTEBOOK"],
            shells=counts["SHELL"],
            tensorboards=counts["TENSORBOARD"],
        )

    async def GetTaskContextDirectory(
        self, request: api.GetTaskContextDirectoryRequest, call: Call
    ) -> api.GetTaskContextDirectoryResponse:
        """Give out the files that came with a task."""
        with told():
            record = await self._tasks.get(request.task_id)
        tgz = await self._tasks.load_context(record)
        return api.GetTaskContextDirectoryResponse(b64_tgz=base64.b64encode(tgz).decode())

    async def GetTaskAcceleratorData(
        self, request: api.GetTaskAcceleratorDataRequest, call: Call
    ) -> api.GetTaskAcceleratorDataResponse:
        """List the accelerators that the containers of a task found."""
        with told():
            record = await self._tasks.get(request.task_id)
        statement = (
            select(AcceleratorRow)
            .where(AcceleratorRow.task_id == record.task_id)
            .order_by(AcceleratorRow.allocation_id, AcceleratorRow.container_id)
        )
        async with self._database.reading() as session:
            rows = (await session.scalars(statement)).all()
        return api.GetTaskAcceleratorDataResponse(
            accelerator_data=[
                AcceleratorData(
                    container_id=row.container_id,
                    allocation_id=row.allocation_id,
                    node_name=row.node_name,
                    task_id=row.task_id,
                    accelerator_type=row.accelerator_type,
                    accelerator_uuids=row.uuids,
                    resource_pool=record.pool,
                )
                for row in rows
            ]
        )
