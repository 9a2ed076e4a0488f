"""What the processes of a task tell and ask the master."""

from __future__ import annotations

from uuid import UUID

from shipway_master.allocations.allocation import Allocation
from shipway_master.allocations.errors import AllocationNotFound, InvalidCall
from shipway_master.allocations.ids import (
    AllocationId,
    ResourcesId,
    get_task_id,
    parse_allocation_id,
)
from shipway_master.allocations.live import Allocations
from shipway_master.allocations.preemption import PreemptionCause
from shipway_master.proxynetworks import NotAllowed, ProxyNetworks
from shipway_master.rpc import Call, long_poll
from shipway_master.services.told import told
from shipway_master.store.database import Database
from shipway_master.store.tasks import AcceleratorRow
from shipway_master.tasks.tasks import Tasks
from shipway_master.tasks.views import view_allocation
from shipway_proto.determined.api.v1 import task_pb2, trial_pb2
from shipway_proto.determined.trial.v1.trial_pb2 import RendezvousInfo


class AllocationService:
    """The RPCs of allocations: for the run itself, the owner of its task, and administrators.

    The token of another run is refused, even of the same owner or task.
    """

    def __init__(
        self,
        database: Database,
        tasks: Tasks,
        allocations: Allocations,
        proxy_networks: ProxyNetworks,
    ) -> None:
        self._database = database
        self._proxy_networks = proxy_networks
        self._tasks = tasks
        self._allocations = allocations

    async def GetAllocation(
        self, request: task_pb2.GetAllocationRequest, call: Call
    ) -> task_pb2.GetAllocationResponse:
        """Find an allocation, live or not."""
        with told():
            live = self._allocations.find(request.allocation_id)
            record = live.record if live is not None else None
            if record is None:
                allocation_id = AllocationId(request.allocation_id)
                record = await self._allocations.records.load(allocation_id)
            if record is None:
                raise AllocationNotFound(request.allocation_id)
        return task_pb2.GetAllocationResponse(allocation=view_allocation(record))

    async def AllocationReady(
        self, request: task_pb2.AllocationReadyRequest, call: Call
    ) -> task_pb2.AllocationReadyResponse:
        """Note that the task's service can be used."""
        with told():
            await (await self._get(request.allocation_id, call)).ready()
        return task_pb2.AllocationReadyResponse()

    async def AllocationWaiting(
        self, request: task_pb2.AllocationWaitingRequest, call: Call
    ) -> task_pb2.AllocationWaitingResponse:
        """Note that the task waits for something of its own."""
        with told():
            await (await self._get(request.allocation_id, call)).waiting()
        return task_pb2.AllocationWaitingResponse()

    @long_poll
    async def AllocationPreemptionSignal(
        self, request: trial_pb2.AllocationPreemptionSignalRequest, call: Call
    ) -> trial_pb2.AllocationPreemptionSignalResponse:
        """Wait until the task must leave, or the time is over; an ended task need not leave."""
        with told():
            allocation = self._allocations.find(request.allocation_id)
            if allocation is None:
                return trial_pb2.AllocationPreemptionSignalResponse(preempt=False)
            await self._require_owner(allocation, call)
            must_leave = await allocation.preemption.wait(request.timeout_seconds)
        return trial_pb2.AllocationPreemptionSignalResponse(preempt=must_leave)

    async def AllocationPendingPreemptionSignal(
        self, request: trial_pb2.AllocationPendingPreemptionSignalRequest, call: Call
    ) -> trial_pb2.AllocationPendingPreemptionSignalResponse:
        """Hear from the job that the scheduler is about to take its resources away."""
        with told():
            allocation = await self._get(request.allocation_id, call)
            await allocation.preempt(PreemptionCause.SCHEDULER, "preempted by the scheduler")
        return trial_pb2.AllocationPendingPreemptionSignalResponse()

    async def AckAllocationPreemptionSignal(
        self, request: trial_pb2.AckAllocationPreemptionSignalRequest, call: Call
    ) -> trial_pb2.AckAllocationPreemptionSignalResponse:
        """Note that the task knows it must leave: its end is no end of its work."""
        with told():
            await (await self._get(request.allocation_id, call)).ack_preemption()
        return trial_pb2.AckAllocationPreemptionSignalResponse()

    async def NotifyContainerRunning(
        self, request: trial_pb2.NotifyContainerRunningRequest, call: Call
    ) -> trial_pb2.NotifyContainerRunningResponse:
        """Note that the container of a rank runs; for an ended allocation nothing is noted."""
        with told():
            allocation = self._allocations.find(request.allocation_id)
            if allocation is not None:
                await self._require_owner(allocation, call)
                await allocation.rank_running(
                    request.rank, num_peers=request.num_peers, node_name=request.node_name
                )
        return trial_pb2.NotifyContainerRunningResponse()

    @long_poll
    async def AllocationAllGather(
        self, request: trial_pb2.AllocationAllGatherRequest, call: Call
    ) -> trial_pb2.AllocationAllGatherResponse:
        """Wait for the data of all ranks, and return it in rank order."""
        with told():
            allocation = await self._get(request.allocation_id, call)
            call.shares_answer = True
            return await allocation.gather(
                _read_uuid(request.request_uuid), num_peers=request.num_peers, data=request.data
            )

    @long_poll
    async def AllocationRendezvousInfo(
        self, request: trial_pb2.AllocationRendezvousInfoRequest, call: Call
    ) -> trial_pb2.AllocationRendezvousInfoResponse:
        """Wait for the other containers, and return where all of them are reached."""
        with told():
            allocation = await self._get(request.allocation_id, call)
            info = await allocation.rendezvous(ResourcesId(request.resources_id))
        return trial_pb2.AllocationRendezvousInfoResponse(
            rendezvous_info=RendezvousInfo(
                addresses=info.addresses, rank=info.rank, slots=info.slots
            )
        )

    async def MarkAllocationResourcesDaemon(
        self, request: trial_pb2.MarkAllocationResourcesDaemonRequest, call: Call
    ) -> trial_pb2.MarkAllocationResourcesDaemonResponse:
        """Note that a container ends when the others have ended."""
        with told():
            allocation = await self._get(request.allocation_id, call)
            await allocation.mark_daemon(ResourcesId(request.resources_id))
        return trial_pb2.MarkAllocationResourcesDaemonResponse()

    async def PostAllocationProxyAddress(
        self, request: trial_pb2.PostAllocationProxyAddressRequest, call: Call
    ) -> trial_pb2.PostAllocationProxyAddressResponse:
        """Note where the task's services are reached.

        An address to which the proxy must not lead is no error for the task, which the stock harness
        would end: on a node whose name leads to its loopback, all tasks tell that address.
        """
        with told():
            allocation = await self._get(request.allocation_id, call)
            try:
                self._proxy_networks.require_allowed(request.proxy_address)
            except NotAllowed as error:
                task = await self._tasks.get(get_task_id(allocation.id))
                if task.service is not None or task.config.environment.proxy_ports:
                    await allocation.say(f"what this task serves cannot be reached: {error}")
            else:
                await allocation.set_proxy_address(request.proxy_address)
        return trial_pb2.PostAllocationProxyAddressResponse()

    async def PostAllocationAcceleratorData(
        self, request: trial_pb2.PostAllocationAcceleratorDataRequest, call: Call
    ) -> trial_pb2.PostAllocationAcceleratorDataResponse:
        """Store which accelerators a container found; a repeated report replaces the older."""
        data = request.accelerator_data
        with told():
            allocation_id = parse_allocation_id(request.allocation_id)
            if not data.container_id:
                raise InvalidCall("accelerator_data.container_id is missing")
            call.principal.require_run(allocation_id)
            task = await self._tasks.get(get_task_id(allocation_id))
            call.principal.require_owner_or_admin(task.owner_id)
            if await self._allocations.records.load(allocation_id) is None:
                raise AllocationNotFound(allocation_id)
        row = AcceleratorRow(
            allocation_id=allocation_id,
            container_id=data.container_id,
            task_id=task.task_id,
            node_name=data.node_name,
            accelerator_type=data.accelerator_type,
            uuids=list(data.accelerator_uuids),
        )
        async with self._database.writing() as session:
            await session.merge(row)
        return trial_pb2.PostAllocationAcceleratorDataResponse()

    async def _get(self, allocation_id: str, call: Call) -> Allocation:
        allocation = self._allocations.get(allocation_id)
        await self._require_owner(allocation, call)
        return allocation

    async def _require_owner(self, allocation: Allocation, call: Call) -> None:
        call.principal.require_run(allocation.id)
        task = await self._tasks.get(allocation.request.task_id)
        call.principal.require_owner_or_admin(task.owner_id)


def _read_uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise InvalidCall(f"request_uuid {text[:80]!r} is no UUID") from error
