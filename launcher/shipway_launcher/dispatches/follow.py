"""Apply what Slurm says to the dispatches, and see to it that what was cancelled ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from shipway_launcher.dispatches import files
from shipway_launcher.dispatches.cancelmark import leave_cancel_mark
from shipway_launcher.dispatches.match import choose_job, find_jobs, is_job_of
from shipway_launcher.dispatches.outcome import with_row
from shipway_launcher.dispatches.record import Dispatch, DispatchId, Submission, now
from shipway_launcher.dispatches.registry import Registry
from shipway_launcher.dispatches.vanished import Patience, Searcher, adoption, row_change
from shipway_launcher.errors import LauncherError, NotFound
from shipway_launcher.slurm.backend import SlurmBackend
from shipway_launcher.slurm.rows import JobRow, SlurmJobId
from shipway_launcher.slurm.states import Phase
from shipway_launcher.users import Users

log = logging.getLogger(__name__)


class Follower:
    """Keeps the dispatches in step with Slurm."""

    def __init__(
        self,
        registry: Registry,
        slurm: SlurmBackend,
        users: Users,
        *,
        root: Path,
        patience: Patience,
        kill_after_s: float,
        preempted: Callable[[Dispatch], None] = lambda _: None,
    ) -> None:
        """Prepare.

        Args:
            registry: The dispatches.
            slurm: For questions about single jobs, and for cancelling.
            users: As whom to ask and to cancel.
            root: The job_storage_root.
            patience: How long a working Slurm must not know a job.
            kill_after_s: How long a cancelled job may go on before it is killed, in seconds.
            preempted: Is told of a dispatch whose job Slurm has announced to preempt.
        """
        self._registry, self._slurm, self._users, self._root = registry, slurm, users, root
        self._searcher = Searcher(slurm, users, root=root, patience=patience)
        self._kill_after_s, self._preempted = kill_after_s, preempted
        self._cancelled_at: dict[SlurmJobId, float] = {}

    def is_needed(self) -> bool:
        """Say whether any dispatch can change by itself."""
        return any(
            not dispatch.state.is_final or dispatch.submission is Submission.REFUSED
            for dispatch in self._registry.all()
        )

    async def follow(self, rows: Sequence[JobRow]) -> None:
        """Apply one look at all jobs of everybody."""
        dispatches = self._registry.all()
        by_id = {row.id: row for row in rows}
        vanished: list[Dispatch] = []
        async with asyncio.TaskGroup() as group:
            for dispatch in dispatches:
                if dispatch.state.is_final or dispatch.submission is not Submission.SUBMITTED:
                    continue
                row = by_id.get(dispatch.job_id) if dispatch.job_id else None
                if row is None or not is_job_of(dispatch, row):
                    vanished.append(dispatch)
                elif with_row(dispatch, row, dispatch.updated_at) != dispatch:
                    group.create_task(self._apply(dispatch.id, row_change(row)))
        vanished += await self._follow_names(dispatches, rows)
        changes = await self._searcher.search(vanished)
        async with asyncio.TaskGroup() as group:
            for dispatch_id, change in changes.items():
                group.create_task(self._apply(dispatch_id, change))
        await self._press(by_id)

    async def _follow_names(
        self, dispatches: Sequence[Dispatch], rows: Sequence[JobRow]
    ) -> list[Dispatch]:
        """Find the jobs of doubtful submissions, and end jobs that nobody was promised.

        Returns:
            The dispatches for which no job was found and for which there may be one.
        """
        found = find_jobs(dispatches, rows)
        strays: list[tuple[Dispatch, JobRow]] = []
        without: list[Dispatch] = []
        for dispatch in dispatches:
            own = found.get(dispatch.id, [])
            match dispatch.submission:
                case Submission.DOUBTFUL if not dispatch.state.is_final:
                    row = choose_job(own)
                    if row is None:
                        without.append(dispatch)
                    else:
                        await self._apply(dispatch.id, adoption(row))
                case Submission.REFUSED:
                    strays += [(dispatch, row) for row in own]
                case Submission.SUBMITTED:
                    strays += [(dispatch, row) for row in own if row.id != dispatch.job_id]
                case Submission.DOUBTFUL | Submission.PREPARING | Submission.SUBMITTING:
                    pass  # the launch itself is at work, or it is over
        for dispatch, row in strays:
            if row.state.phase in (Phase.WAITING, Phase.RUNNING):
                log.warning(
                    "cancelling a job of a submission that was given up",
                    extra={"dispatch_id": dispatch.id, "job_id": row.id},
                )
                await self._cancel(dispatch.owner, [row.id])
        return without

    async def _press(self, by_id: Mapping[SlurmJobId, JobRow]) -> None:
        """Cancel again what was to end and has not; with SIGKILL, because it had its time."""
        due: defaultdict[tuple[str, bool], list[SlurmJobId]] = defaultdict(list)
        for dispatch in self._registry.all():
            row = by_id.get(dispatch.job_id) if dispatch.job_id else None
            if dispatch.state.is_final or row is None or row.state.phase is Phase.ENDED:
                continue
            asked_at = dispatch.terminate_requested_at
            # A job that Slurm puts back into its queue would run again with tokens that are spent.
            if asked_at is None and row.restarts == 0:
                continue
            last = self._cancelled_at.get(row.id)
            if last is not None and time.monotonic() - last < self._kill_after_s:
                continue
            if last is None and asked_at is not None:
                await self._mark(dispatch)
            waited_s = (now() - asked_at).total_seconds() if asked_at is not None else 0.0
            due[dispatch.owner, waited_s >= self._kill_after_s].append(row.id)
        for (owner, has_had_time), ids in due.items():
            if has_had_time:
                await self._cancel(owner, ids, signal="KILL")
            await self._cancel(owner, ids)

    async def _mark(self, dispatch: Dispatch) -> None:
        folder = files.job_folder(self._root, dispatch.owner, dispatch.id)
        try:
            await leave_cancel_mark(await self._users.get(dispatch.owner), folder)
        except LauncherError as error:
            log.warning("no mark of the cancel: %s", error, extra={"dispatch_id": dispatch.id})

    async def _cancel(
        self, owner: str, ids: Sequence[SlurmJobId], signal: str | None = None
    ) -> None:
        try:
            user = await self._users.get(owner)
            await self._slurm.cancel(ids, user=user, signal=signal)
        except LauncherError as error:
            log.warning("jobs were not cancelled: %s", error, extra={"job_ids": ",".join(ids)})
        else:
            self.note_cancelled(ids)

    def note_cancelled(self, ids: Iterable[SlurmJobId]) -> None:
        """Remember that jobs were cancelled just now, so that they are given their time."""
        self._cancelled_at |= dict.fromkeys(ids, time.monotonic())

    async def _apply(self, dispatch_id: DispatchId, change: Callable[[Dispatch], Dispatch]) -> None:
        def unless_final(dispatch: Dispatch) -> Dispatch:
            return dispatch if dispatch.state.is_final else change(dispatch)

        try:
            after = await self._registry.update(dispatch_id, unless_final)
        except NotFound:  # deleted meanwhile
            return
        if after.preempted_at is not None and not after.is_preemption_told:
            self._preempted(after)
        if after.state.is_final and after.job_id is not None:
            self._cancelled_at.pop(after.job_id, None)
