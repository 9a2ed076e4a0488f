"""One live allocation: it hears what happens to its resources and decides what follows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from google.protobuf.struct_pb2 import Struct

from shipway_common.backoff import backoff_delays_s
from shipway_master.allocations.ending import EndingState, list_facts, were_ended_by_force
from shipway_master.allocations.errors import UnknownResources
from shipway_master.allocations.exits import (
    Failure,
    FailureType,
    Outcome,
    Step,
    decide_after_exit,
    decide_outcome,
)
from shipway_master.allocations.ids import AllocationId, ResourcesId
from shipway_master.allocations.life import (
    AllocationState,
    ResourcesState,
    advance,
    advance_resources,
    get_allocation_state,
)
from shipway_master.allocations.preemption import Preemption, PreemptionCause
from shipway_master.allocations.records import AllocationRecord, Share
from shipway_master.allocations.rendezvous import Rendezvous, RendezvousInfo
from shipway_master.allocations.surroundings import Surroundings
from shipway_master.cluster.manager import Assignment, Change, Request, ResourceManager
from shipway_master.errors import Unavailable
from shipway_proto.determined.api.v1.trial_pb2 import AllocationAllGatherResponse

log = logging.getLogger(__name__)


class Allocation:
    """A run of a task, from its request to its end.

    Set once: `record` (whose fields change), `request`, `manager`, `name`. All changes are made
    under one lock, and are in the database before anything acts on them.

    Args:
        name: What people call the task, in log lines.
        preemption_s: Time to leave after a preemption, if the task has one of its own.
    """

    def __init__(
        self,
        record: AllocationRecord,
        *,
        request: Request,
        manager: ResourceManager,
        name: str,
        preemption_s: float | None,
        surroundings: Surroundings,
    ) -> None:
        self.record = record
        self.request = request
        self.manager = manager
        self.name = name
        self.preemption = Preemption(
            cause=record.preemption_cause, is_acked=record.preemption_acked
        )
        self._around = surroundings
        self._preemption_s = preemption_s or surroundings.timings.preemption_s
        self._lock = asyncio.Lock()
        self._ended = asyncio.Event()
        self._rendezvous: Rendezvous | None = None
        self._ending = EndingState(
            kill_reason=record.kill_reason,
            was_whole_when_killed=were_ended_by_force(record.shares),  # as far as one can know
            failures=[share.failure for share in record.shares if share.failure is not None],
        )

    @property
    def id(self) -> AllocationId:
        """The allocation's id."""
        return self.record.allocation_id

    @property
    def is_leaving(self) -> bool:
        """Whether it has been asked to leave, or is being killed."""
        return self.preemption.is_given or self.is_killed

    @property
    def is_killed(self) -> bool:
        """Whether it is being killed."""
        return self._ending.kill_reason is not None

    @property
    def are_all_running(self) -> bool:
        """Whether all of its containers have been seen to run."""
        return bool(self.record.shares) and all(
            share.state is ResourcesState.RUNNING for share in self.record.shares
        )

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._ended.is_set()

    # its beginning

    async def schedule(self) -> None:
        """Ask for resources."""
        await self.say(f"Scheduling {self.name} (id: {self.id})")
        self.manager.submit(self)

    async def restore(self) -> None:
        """Go on after a restart of the master."""
        await self.say(f"Restoring {self.name} (id: {self.id})")
        if not self.record.shares:
            if self._ending.kill_reason is not None:
                await self._finish_and_tell()
            else:
                self.manager.submit(self)
            return
        self._open_rendezvous()
        if await self._take_up_exits():
            return
        live = [
            replace(share.assignment, state=share.state)
            for share in self.record.shares
            if not share.is_exited
        ]
        if not await self.manager.restore(self, live):
            failure = Failure(
                type=FailureType.RESTORE_ERROR,
                message="what it ran on is not known any more",
            )
            for assignment in live:
                await self.changed(
                    assignment.resources_id,
                    Change(state=ResourcesState.TERMINATED, failure=failure),
                )
            return
        where = "an agent" if live and live[0].agent_id is not None else "Slurm"
        await self.say(f"{self.name} was recovered on {where}")
        if self._ending.kill_reason is not None:
            self._start_killing()
        elif self.preemption.is_given:
            self._around.timers.start(self._kill_after_preemption(), name="preemption timeout")

    async def _take_up_exits(self) -> bool:
        """Do what the exits call for that were stored before; True when that was the end."""
        facts = list_facts(self.record.shares)
        if all(one.is_exited for one in facts):
            await self._finish_and_tell()
            return True
        if any(one.is_exited for one in facts):
            step = decide_after_exit(facts)
            if step in (Step.KILL_DAEMONS, Step.KILL_REST):
                self._ending.daemons_killed_gracefully = not self._ending.failures
                self._start_killing()
        return False

    async def assigned(self, assignments: Sequence[Assignment]) -> bool:
        """Take resources and start the task on them; False if they are not wanted any more."""
        async with self._lock:
            if self.is_over or self._ending.kill_reason is not None or self.record.shares:
                return False
            self.record.shares = [Share(assignment=one) for one in assignments]
            self.record.state = advance(self.record.state, AllocationState.ASSIGNED)
            await self._save()
            self._open_rendezvous()
            try:
                launch = await self._around.build_launch(self)
                for one in assignments:
                    await self.manager.start(self, one, launch, shares=len(assignments))
                return True
            except Exception as error:
                log.exception("a task cannot be started", extra={"allocation_id": self.id})
                problem = f"it could not be started: {error}"
        failure = Failure(type=FailureType.AGENT_ERROR, message=problem)
        for one in assignments:
            change = Change(state=ResourcesState.TERMINATED, failure=failure)
            await self.changed(one.resources_id, change)
        return True

    # what happens to its resources

    async def changed(self, resources_id: ResourcesId, change: Change) -> None:
        """Hear of a change; repeated and late ones do no harm."""
        outcome = None
        async with self._lock:
            share = self._find_share(resources_id)
            if share is None or share.is_exited or self.is_over:
                return
            if change.state is ResourcesState.TERMINATED:
                if change.is_preempted and self.preemption.give(PreemptionCause.SCHEDULER):
                    self._note_preemption(PreemptionCause.SCHEDULER)  # its notice never arrived
                outcome = await self._share_exited(share, change.failure)
            else:
                await self._share_advanced(share, change)
        if outcome is not None:
            await self._around.end(self, outcome)

    async def _share_advanced(self, share: Share, change: Change) -> None:
        before, was = self.record.state, share.state
        share.state = advance_resources(share.state, change.state)
        share.addresses = change.addresses or share.addresses
        share.native_id = change.native_id or share.native_id
        self.record.state = advance(before, get_allocation_state(share.state))
        if change.state is not ResourcesState.ASSIGNED and self.record.started_at is None:
            self.record.started_at = datetime.now(UTC)
        await self._save()
        if before is AllocationState.ASSIGNED and self.record.state is not before:
            where = "an agent" if share.assignment.agent_id is not None else "Slurm"
            await self.say(f"{self.name} was assigned to {where}")
        if share.state is ResourcesState.RUNNING:
            if was is not ResourcesState.RUNNING:
                await self.say(f"Resources for {self.name} have started")
            if self._rendezvous is not None and share.addresses:
                self._rendezvous.set_started(share.id, share.addresses)

    async def _share_exited(self, share: Share, failure: Failure | None) -> Outcome | None:
        was_killed = self._ending.kill_reason is not None
        share.is_exited, share.state = True, ResourcesState.TERMINATED
        self.record.state = advance(self.record.state, AllocationState.TERMINATING)
        is_expected = share.is_daemon and self._ending.daemons_killed_gracefully
        if failure is not None and not is_expected:
            share.failure = failure
            self._ending.failures.append(failure)
        await self._save()
        if self._rendezvous is not None:
            self._rendezvous.set_exited(share.id)
        if failure is None:
            await self.say("resources exited successfully with a zero exit code")
        elif was_killed or is_expected:
            await self.say(f"killed: {failure}")
        else:
            await self.say(f"crashed: {failure}", is_error=True)
        match decide_after_exit(list_facts(self.record.shares)):
            case Step.END:
                return await self._finish()
            case Step.KILL_DAEMONS:
                self._ending.daemons_killed_gracefully = not self._ending.failures
                await self._kill_shares("all containers that are no daemons have exited")
            case Step.KILL_REST:
                await self._kill_shares("another container of the task failed")
            case Step.WAIT:
                pass
        return None

    # what people, schedulers and the task itself want

    async def kill(self, reason: str) -> None:
        """End everything at once; repeated until it is gone."""
        outcome = None
        async with self._lock:
            if self.is_over:
                return
            if self._ending.note_kill(reason, self.record.shares):
                self.record.kill_reason = reason
                await self._save()
            if not self.record.shares:
                outcome = await self._finish()
            else:
                await self._kill_shares(reason)
        if outcome is not None:
            await self._around.end(self, outcome)

    async def make_room(self, reason: str) -> None:
        """Leave because the scheduler needs the room."""
        await self._leave(PreemptionCause.SCHEDULER, reason)

    async def stop(self, reason: str) -> None:
        """Leave because somebody wants it."""
        await self._leave(PreemptionCause.USER, reason)

    async def _leave(self, cause: PreemptionCause, reason: str) -> None:
        """Leave in good order if the task has shown that it listens, else be killed.

        It has when it met its peers or polls for the signal. What never asks would only be killed
        an hour later.
        """
        listens = self.record.is_ready or self.preemption.has_listener
        if self.request.is_preemptible and listens:
            await self.preempt(cause, reason)
        else:
            await self.kill(reason)

    async def preempt(self, cause: PreemptionCause, reason: str) -> None:
        """Ask the task to leave, and kill it if it does not in time. Repeating changes nothing."""
        async with self._lock:
            if self.is_over or not self.preemption.give(cause):
                return
            self._note_preemption(cause)
            await self._save()
            await self.say(
                f"gracefully terminating allocation's remaining resources (reason: {reason})"
            )
            self._around.timers.start(self._kill_after_preemption(), name="preemption timeout")

    def _note_preemption(self, cause: PreemptionCause) -> None:
        self.record.preemption_cause = cause
        self.record.preempted_at = datetime.now(UTC)

    async def ack_preemption(self) -> None:
        """Note that the task knows it has to leave: its end is then no end of its work."""
        async with self._lock:
            self.preemption.is_acked = self.record.preemption_acked = True
            await self._save()

    async def ready(self) -> None:
        """Note that the task can be used."""
        async with self._lock:
            if self.record.is_ready:
                return
            self.record.is_ready = True
            self.record.state = advance(self.record.state, AllocationState.RUNNING)
            await self._save()
            await self.say(f"Service of {self.name} is available")

    async def waiting(self) -> None:
        """Note that the task waits for something of its own."""
        async with self._lock:
            self.record.state = advance(self.record.state, AllocationState.WAITING)
            await self._save()

    async def rank_running(self, rank: int, *, num_peers: int, node_name: str) -> None:
        """Note that the container of a rank runs; the job does when those of all ranks do.

        Raises:
            InvalidCall: The numbers cannot be right.
        """
        async with self._lock:
            self.record.ranks.require_possible(rank, num_peers=num_peers)
            await self._around.records.add_rank(
                self.id, rank, num_peers=num_peers, node_name=node_name
            )
            if not self.record.ranks.add(rank, num_peers=num_peers, node_name=node_name):
                log.debug("rank reported again", extra={"rank": rank})
                return
            await self._advance_jobs(ResourcesState.PULLING)  # this is news before Slurm's is
            if num_peers > 1:
                await self.say(self.record.ranks.describe())
            if self.record.ranks.are_all_running:
                await self._advance_jobs(ResourcesState.RUNNING)

    async def mark_daemon(self, resources_id: ResourcesId) -> None:
        """Note that a container does not end by itself; the others decide. One alone cannot.

        Raises:
            UnknownResources: It is none of this allocation's.
        """
        async with self._lock:
            share = self._find_share(resources_id)
            if share is None:
                raise UnknownResources(self.id, resources_id)
            if len(self.record.shares) == 1:
                return
            share.is_daemon = True
            await self._save()
            if all(one.is_daemon for one in self.record.shares):
                await self._kill_shares("all of its containers are daemons")

    async def set_proxy_address(self, address: str) -> None:
        """Note where the task's services are reached."""
        async with self._lock:
            self.record.proxy_address = address
            await self._save()

    async def rendezvous(self, resources_id: ResourcesId) -> RendezvousInfo:
        """Wait for the other containers.

        Raises:
            AllocationError: It cannot happen; see `Rendezvous.watch`.
        """
        if self._rendezvous is None:
            raise UnknownResources(self.id, resources_id)
        info = await self._rendezvous.watch(resources_id)
        await self._ready_even_if_the_caller_goes()
        return info

    async def gather(
        self, peer_id: UUID, *, num_peers: int, data: Struct
    ) -> AllocationAllGatherResponse:
        """Wait for all peers and return the data of all, in one message for all of them.

        Raises:
            AllocationError: It cannot happen; see `Gathers.join`.
        """
        everything = await self._around.gathers.join(
            self.id, peer_id, num_peers=num_peers, data=data
        )
        await self._ready_even_if_the_caller_goes()
        return everything

    async def say(self, text: str, *, is_error: bool = False) -> None:
        """Write a line into the task's log."""
        await self._around.write_log(self, text, is_error)

    # inside

    async def _ready_even_if_the_caller_goes(self) -> None:
        if not self.is_over and not self.record.is_ready:
            await asyncio.shield(self._around.timers.start(self.ready(), name="ready"))

    async def _advance_jobs(self, state: ResourcesState) -> None:
        """A Slurm job is as far as its ranks are; containers of agents have their own reports."""
        for share in self.record.shares:
            if share.assignment.agent_id is None and not share.is_exited:
                await self._share_advanced(share, Change(state=state))

    def _find_share(self, resources_id: ResourcesId) -> Share | None:
        return next((one for one in self.record.shares if one.id == resources_id), None)

    def _open_rendezvous(self) -> None:
        self._rendezvous = Rendezvous(
            self.id,
            [(share.id, share.assignment.slots) for share in self.record.shares],
            on_slow=self._rendezvous_is_slow,
            warn_after_s=self._around.timings.slow_meeting_s,
        )
        for share in self.record.shares:
            if share.state is ResourcesState.RUNNING:
                self._rendezvous.set_started(share.id, share.addresses)
            if share.is_exited:
                self._rendezvous.set_exited(share.id)

    async def _rendezvous_is_slow(self, watchers: int, containers: int) -> None:
        await self.say(
            f"some containers are taking a long time to start: {watchers} of {containers} wait for "
            "the others",
        )

    async def _kill_shares(self, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        if not self._ending.take_turn(now, quiet_s=self._around.timings.kill_quiet_s):
            return
        await self.say(f"forcibly killing allocation's remaining resources (reason: {reason})")
        for share in self.record.shares:
            if not share.is_exited:
                await self.manager.kill(self.id, share.id)
        self._start_killing()

    def _start_killing(self) -> None:
        """Repeat the kill until nothing is left; the first repetition comes after a while."""
        if not self._ending.is_repeating:
            self._ending.is_repeating = True
            self._around.timers.start(self._keep_killing(), name="kill again")

    async def _keep_killing(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._around.timings.kill_again_s):
                    await self._ended.wait()
                return
            except TimeoutError:
                async with self._lock:
                    if not self.is_over:
                        await self._kill_shares(self._ending.kill_reason or "not gone yet")

    async def _kill_after_preemption(self) -> None:
        asked_at = self.record.preempted_at or datetime.now(UTC)
        waited_s = max(
            0.0, (datetime.now(UTC) - asked_at).total_seconds()
        )  # clocks may be set back
        left_s = self._preemption_s - waited_s
        try:
            async with asyncio.timeout(max(0.0, left_s)):
                await self._ended.wait()
        except TimeoutError:
            await self.kill(f"it did not leave within {self._preemption_s:g} s of its preemption")

    async def _finish_and_tell(self) -> None:
        async with self._lock:
            if self.is_over:
                return
            outcome = await self._finish()
        await self._around.end(self, outcome)

    async def _finish(self) -> Outcome:
        facts = self._ending.collect_facts(
            self.record.shares, self.preemption, is_preemptible=self.request.is_preemptible
        )
        outcome = decide_outcome(facts)
        self.record.state = AllocationState.TERMINATED
        self.record.ended_at = self.record.ended_at or datetime.now(UTC)
        self.record.exit_reason = outcome.reason
        self.record.status_code = outcome.exit_code
        await self._save()
        self._ended.set()
        self.preemption.close()
        self._around.gathers.close(self.id)
        if self._rendezvous is not None:
            self._rendezvous.close()
        self.manager.withdraw(self.id)
        await self.say(f"{self.name} was terminated: {outcome.reason}")
        return outcome

    async def _save(self) -> None:
        """Store the record; what has happened cannot be taken back, so a full disk is waited for."""
        for delay_s in backoff_delays_s(limit_s=10.0):
            try:
                await self._around.records.save(self.record)
                return
            except Unavailable as error:
                log.error(
                    "an allocation cannot be stored; trying again",
                    extra={"allocation_id": self.id, "error": str(error)},
                )
                await asyncio.sleep(delay_s)
