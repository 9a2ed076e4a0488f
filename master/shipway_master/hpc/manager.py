"""The resource manager that has its tasks run by Slurm, through a launcher."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Self
from uuid import uuid4

from shipway_common.backoff import backoff_delays_s
from shipway_common.logsetup import log_context
from shipway_master.allocations.exits import Failure, FailureType
from shipway_master.allocations.ids import AllocationId, ResourcesId
from shipway_master.allocations.life import ResourcesState
from shipway_master.background import Background, finish_first
from shipway_master.cluster.config import PoolConfig
from shipway_master.cluster.manager import (
    Assignment,
    Change,
    Holder,
    Ordering,
    Request,
    Unfulfillable,
)
from shipway_master.errors import Unavailable
from shipway_master.hpc.client import LauncherClient
from shipway_master.hpc.config import SlurmManagerConfig
from shipway_master.hpc.dispatch import Dispatch
from shipway_master.hpc.errors import LauncherError
from shipway_master.hpc.launching import OLD_LAUNCHER, LaunchFailed, launch, look_for
from shipway_master.hpc.manifest import Site, Target, name_payload
from shipway_master.hpc.partitions import (
    Pool,
    check_fits,
    choose_default_pools,
    compute_request_needs,
    list_pools,
)
from shipway_master.hpc.reading import (
    DispatchState,
    DispatchStatus,
    Resources,
    UnreadableAnswer,
    parse_resources,
)
from shipway_master.hpc.records import DispatchRecord, DispatchRecords, Phase
from shipway_master.hpc.version import explain_version
from shipway_master.hpc.views import view_node, view_pool
from shipway_master.hpc.watch import Watch
from shipway_master.tasks.defaults import TaskContainerDefaults
from shipway_master.tasks.launch import Launch
from shipway_proto.determined.agent.v1.agent_pb2 import Agent as AgentMessage
from shipway_proto.determined.resourcepool.v1.resourcepool_pb2 import ResourcePool

log = logging.getLogger(__name__)

_LAUNCHES_AT_ONCE = 8
_KILL_REPEAT_S = 300.0
_DEFAULT_PRIORITY = 42


class SlurmManager:
    """One Slurm cluster. Entered, it owns the launches, the watch, and the cleaning up."""

    def __init__(
        self,
        config: SlurmManagerConfig,
        pools: Sequence[PoolConfig],
        *,
        client: LauncherClient,
        records: DispatchRecords,
        get_site: Callable[[], Site],
    ) -> None:
        self._config = config
        self._configured = pools
        self._client = client
        self._records = records
        self._get_site = get_site
        self._since = datetime.now(UTC)
        self._sample: Resources | None = None
        self._trouble = "it has not been asked yet"
        self._dispatches: dict[AllocationId, Dispatch] = {}
        self._restorable: dict[AllocationId, DispatchRecord] = {}
        self._watch = Watch(client, records, self._finish)
        self._look_now = asyncio.Event()
        self._sampled = asyncio.Event()
        self._launches = asyncio.Semaphore(_LAUNCHES_AT_ONCE)
        self._background = Background()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._client)
        await self._stack.enter_async_context(self._background)
        self._restorable = {record.id: record for record in await self._records.load_all()}
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def begin(self) -> None:
        """Start to talk to the launcher; called when all that ran before has been restored."""
        for record in self._restorable.values():
            self._background.start(self._clean_up(record), name="clean up")
        self._restorable = {}
        self._background.start(self._watch_resources(), name="launcher resources")
        self._background.start(self._watch_jobs(), name="launcher jobs")

    # what the cluster asks

    @property
    def name(self) -> str:
        """Tasks in the database refer to it by this."""
        return f"slurm:{self._config.cluster_name}"

    @property
    def default_pools(self) -> tuple[str | None, str | None]:
        """The pools for tasks that name none: with slots, and without."""
        return choose_default_pools(self._config, self._sample)

    def has_pool(self, pool: str) -> bool:
        """Whether the pool is a partition here, or a name for one."""
        return self._find_pool(pool) is not None

    def explain_pools(self) -> str:
        """Say which partitions there are, or why they are not known."""
        if self._sample is None:
            return (
                f"the partitions of the launcher at {self._config.base_url} are not known yet: "
                f"{self._trouble}"
            )
        names = sorted(pool.name for pool in self._list_pools())
        return f"the launcher at {self._config.base_url} has {', '.join(names)}"

    def list_pools(self) -> list[ResourcePool]:
        """Describe the pools."""
        return [
            view_pool(
                pool,
                self._sample.find_partition(pool.partition) if self._sample else None,
                self._config,
                self._count_queue(pool.name),
            )
            for pool in self._list_pools()
        ]

    def list_agents(self) -> list[AgentMessage]:
        """Describe the nodes."""
        sample = self._sample
        if sample is None:
            return []
        return [view_node(node, sample, self._config, self._since) for node in sample.nodes]

    def get_defaults(self, pool: str) -> TaskContainerDefaults:
        """The task container defaults of a pool."""
        found = self._find_pool(pool)
        return TaskContainerDefaults() if found is None else found.defaults

    def get_default_priority(self, pool: str) -> int:
        """Slurm has its own priorities; this is only shown."""
        del pool
        return _DEFAULT_PRIORITY

    def check(self, request: Request) -> bool:
        """Check that the partition could ever hold the request.

        Raises:
            Unfulfillable: It could not, or the launcher has not told yet what there is.
        """
        pool = self._find_pool(request.pool)
        if self._sample is None or pool is None:
            raise Unfulfillable(self.explain_pools())
        check_fits(self._config, self._sample, pool, request)
        return True

    def submit(self, holder: Holder) -> None:
        """Take a request; Slurm does the queueing."""
        self._background.start(self._assign(holder), name="assign")

    async def restore(self, holder: Holder, assignments: Sequence[Assignment]) -> bool:
        """Watch a job again that was launched before the master restarted."""
        record = self._restorable.pop(holder.request.allocation_id, None)
        if record is None or not assignments:
            return False
        if record.phase is Phase.OVER:
            self._restorable[record.id] = record
            return False
        dispatch = Dispatch(record=record, holder=holder)
        self._dispatches[record.id] = dispatch
        if record.phase is Phase.LAUNCHING:
            self._background.start(self._find_again(dispatch), name="find launch")
        return True

    async def start(
        self, holder: Holder, assignment: Assignment, launch: Launch, *, shares: int
    ) -> None:
        """Have a job launched."""
        del shares
        record = DispatchRecord(
            id=holder.request.allocation_id,
            resources_id=assignment.resources_id,
            pool=holder.request.pool,
            owner="",
            payload=name_payload(launch.label),
        )
        await self._records.save(record)  # the intent first: a launch may outlive this process
        dispatch = Dispatch(record=record, holder=holder)
        self._dispatches[record.id] = dispatch
        self._background.start(self._launch(dispatch, launch), name="launch")

    async def kill(self, allocation_id: AllocationId, resources_id: ResourcesId) -> None:
        """Ask for the end of a job; one that is being launched is ended when it is there."""
        del resources_id
        dispatch = self._dispatches.get(allocation_id)
        if dispatch is None:
            return
        dispatch.kill_wanted = True
        accepted, now = dispatch.kill_accepted_at, asyncio.get_running_loop().time()
        is_fresh = accepted is not None and now - accepted < _KILL_REPEAT_S
        if dispatch.record.phase is Phase.WATCHED and not is_fresh:
            self._background.start(self._terminate(dispatch), name="terminate")

    def take_back(self, allocation_id: AllocationId) -> bool:
        """Nothing waits here: what is submitted goes to Slurm at once."""
        del allocation_id
        return False

    def withdraw(self, allocation_id: AllocationId) -> None:
        """Forget a request."""
        self._dispatches.pop(allocation_id, None)

    def get_ordering(self, pool: str) -> Ordering:
        """Slurm serves them by rules of its own."""
        del pool
        return Ordering.SLURM

    def reorder(self) -> None:
        """Nothing here depends on priorities or weights."""

    def get_jobs_ahead(self, allocation_id: AllocationId) -> int:
        """Only Slurm knows."""
        del allocation_id
        return -1

    # one job

    async def _assign(self, holder: Holder) -> None:
        assignment = Assignment(resources_id=ResourcesId(str(uuid4())), slots=holder.request.slots)
        await finish_first(_assigned(holder, assignment))

    async def _launch(self, dispatch: Dispatch, started: Launch) -> None:
        with log_context(dispatch_id=dispatch.record.id):
            async with self._launches, dispatch.lock:
                if dispatch.kill_wanted:
                    failure = Failure(
                        type=FailureType.RESOURCES_ABORTED, message="killed before run"
                    )
                    await self._end(dispatch, failure, may_exist=False)
                    return
                await self._wait_for_sample()
                try:
                    status = await launch(
                        self._client,
                        dispatch,
                        started,
                        self._choose_target(dispatch.holder.request),
                        self._get_site(),
                        user=self._choose_user(started),
                        lost_after_s=self._config.lost_after,
                    )
                except LaunchFailed as error:
                    await self._end(dispatch, error.failure, may_exist=error.may_exist)
                    return
                if status.dispatch_id and status.dispatch_id != dispatch.record.id:
                    await dispatch.holder.say(OLD_LAUNCHER, is_error=True)
                await self._launched(dispatch, status)

    async def _wait_for_sample(self) -> None:
        """After a restart of the master the partitions may not be known yet."""
        try:
            async with asyncio.timeout(self._config.lost_after):
                await self._sampled.wait()
        except TimeoutError:
            log.warning("the launcher has not told its partitions in time")

    async def _find_again(self, dispatch: Dispatch) -> None:
        """Take up a launch during which the master stopped."""
        with log_context(dispatch_id=dispatch.record.id):
            async with dispatch.lock:
                try:
                    status = await look_for(
                        self._client,
                        dispatch,
                        "the master stopped while it launched the job",
                        lost_after_s=self._config.lost_after,
                    )
                except LaunchFailed as error:
                    lost = Failure(type=FailureType.RESTORE_ERROR, message=error.failure.message)
                    await self._end(dispatch, lost, may_exist=error.may_exist)
                    return
                await self._launched(dispatch, status)

    async def _launched(self, dispatch: Dispatch, status: DispatchStatus) -> None:
        await finish_first(self._note_launched(dispatch, status))

    async def _note_launched(self, dispatch: Dispatch, status: DispatchStatus) -> None:
        record = dispatch.record
        record.owner, record.phase = status.owner, Phase.WATCHED
        try:
            await self._records.save(record)
        except Unavailable as error:
            # The job is watched all the same: after a restart it is looked for by its id.
            log.warning("a launch cannot be stored", extra={"error": str(error)})
        log.info("job launched", extra={"job_id": status.job_id, "owner": record.owner})
        await self._watch.hear(dispatch, status)
        self._look_now.set()
        if dispatch.kill_wanted:
            self._background.start(self._terminate(dispatch), name="terminate")

    async def _terminate(self, dispatch: Dispatch) -> None:
        record = dispatch.record
        try:
            await self._client.terminate(record.owner, record.id)
        except LauncherError as error:  # the allocation asks again
            log.warning(
                "a job could not be ended now",
                extra={"dispatch_id": record.id, "error": str(error)},
            )
            return
        dispatch.kill_accepted_at = asyncio.get_running_loop().time()
        self._look_now.set()

    async def _finish(self, dispatch: Dispatch, change: Change) -> None:
        await finish_first(self._note_end(dispatch, change, may_exist=True))

    async def _end(self, dispatch: Dispatch, failure: Failure, *, may_exist: bool) -> None:
        change = Change(state=ResourcesState.TERMINATED, failure=failure)
        await finish_first(self._note_end(dispatch, change, may_exist=may_exist))

    async def _note_end(self, dispatch: Dispatch, change: Change, *, may_exist: bool) -> None:
        # The allocation first: after a crash in between, the launcher can still be asked for the
        # end. Were it forgotten before, the job would be taken for lost and run again.
        await dispatch.holder.changed(dispatch.record.resources_id, change)
        dispatch.is_finished = True
        self._background.start(
            self._clean_up(dispatch.record, may_exist=may_exist), name="clean up"
        )

    async def _clean_up(self, record: DispatchRecord, *, may_exist: bool = True) -> None:
        """Have a job that is over or unwanted ended and forgotten, however long it takes."""
        for delay_s in backoff_delays_s(first_s=1.0, limit_s=60.0):
            try:
                if may_exist:
                    record.phase = Phase.OVER
                    await self._records.save(record)
                    await self._remove_from_launcher(record)
                await self._records.remove(record.id)
                return
            except (LauncherError, Unavailable) as error:
                log.info(
                    "a dispatch cannot be cleaned up now",
                    extra={"dispatch_id": record.id, "error": str(error)},
                )
                await asyncio.sleep(delay_s)

    async def _remove_from_launcher(self, record: DispatchRecord) -> None:
        if not record.owner:
            found = await self._client.find_dispatch(record.id)
            if found is None:
                return
            record.owner = found.owner
        await self._client.terminate(record.owner, record.id)
        await self._client.delete(record.owner, record.id)

    def _choose_target(self, request: Request) -> Target:
        pool = self._find_pool(request.pool)
        partition = None
        if self._sample is not None and pool is not None:
            partition = self._sample.find_partition(pool.partition)
        if pool is None or partition is None:
            failure = Failure(type=FailureType.RESOURCES_FAILED, message=self.explain_pools())
            raise LaunchFailed(failure)
        slot_type, needs = compute_request_needs(self._config, partition, request)
        override = self._config.find_override(partition.name)
        rendezvous, proxy = (
            override.rendezvous_network_interface,
            override.proxy_network_interface,
        )
        return Target(
            partition=partition.name,
            slot_type=slot_type,
            needs=needs,
            excluded_nodes=request.excluded_nodes,
            rendezvous_interface=self._config.rendezvous_network_interface
            if rendezvous is None
            else rendezvous,
            proxy_interface=self._config.proxy_network_interface if proxy is None else proxy,
        )

    def _choose_user(self, started: Launch) -> str:
        user = started.agent_user
        return user.user if user.is_chosen else self._config.user_name

    # the loops

    async def _watch_resources(self) -> None:
        await self._check_version()
        delays = backoff_delays_s(first_s=0.5, limit_s=self._config.resources_interval)
        while True:
            try:
                text = await self._client.query("resources", "slurm-resources-info")
                self._take_sample(parse_resources(text))
                await asyncio.sleep(self._config.resources_interval)
                continue
            except (LauncherError, UnreadableAnswer) as error:
                if self._trouble != str(error):
                    log.warning("the launcher does not tell its resources: %s", error)
                self._trouble = str(error)
            await asyncio.sleep(next(delays))

    def _take_sample(self, sample: Resources) -> None:
        if self._sample is None:
            log.info(
                "launcher found",
                extra={"partitions": len(sample.partitions), "nodes": len(sample.nodes)},
            )
        self._sample, self._trouble = sample, ""
        self._sampled.set()

    async def _check_version(self) -> None:
        for delay_s in backoff_delays_s(first_s=0.5, limit_s=30.0):
            try:
                version = await self._client.fetch_version()
            except LauncherError as error:
                if self._trouble != str(error):
                    log.warning("the launcher cannot be reached; trying again: %s", error)
                self._trouble = str(error)
                await asyncio.sleep(delay_s)
                continue
            problem = explain_version(version)
            if problem:
                log.warning("%s", problem)
            else:
                log.info("launcher answers", extra={"launcher_version": version})
            return

    async def _watch_jobs(self) -> None:
        trouble = ""
        while True:
            watched = [
                one
                for one in self._dispatches.values()
                if one.record.phase is Phase.WATCHED and not one.is_finished
            ]
            if not watched:
                self._look_now.clear()
                await self._look_now.wait()
                continue
            self._look_now.clear()
            try:
                await self._watch.look(watched)
                trouble = ""
            except LauncherError as error:
                if trouble != str(error):
                    log.warning("jobs cannot be looked at now: %s", error)
                trouble = str(error)
            await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._config.queue_interval):
                await self._look_now.wait()
        except TimeoutError:
            return

    def _list_pools(self) -> list[Pool]:
        return list_pools(self._config, self._configured, self._sample)

    def _find_pool(self, name: str) -> Pool | None:
        return next((pool for pool in self._list_pools() if pool.name == name), None)

    def _count_queue(self, pool: str) -> tuple[int, int]:
        own = [one for one in self._dispatches.values() if one.record.pool == pool]
        queued = sum(one.state in (DispatchState.UNKNOWN, DispatchState.PENDING) for one in own)
        return queued, len(own) - queued


async def _assigned(holder: Holder, assignment: Assignment) -> None:
    await holder.assigned([assignment])
