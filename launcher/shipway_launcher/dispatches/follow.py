"""Apply what Slurm says to the dispatches, and see to it that what was cancelled ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from shipway_launcher.dispatches import files
from shipway_launcher.dispatches.match import adopted, choose_job, find_jobs, is_job_of
from shipway_launcher.dispatches.outcome import (
    parse_exit_file,
    with_exit_file,
    with_row,
    without_trace,
)
from shipway_launcher.dispatches.record import Dispatch, DispatchId, Submission, now
from shipway_launcher.dispatches.registry import Registry
from shipway_launcher.errors import LauncherError, NotFound
from shipway_launcher.slurm.backend import SlurmBackend
from shipway_launcher.slurm.rows import JobRow, SlurmJobId
from shipway_launcher.slurm.states import Phase
from shipway_launcher.users import Users

log = logging.getLogger(__name__)

_QUESTIONS_AT_ONCE = 8
_LONGEST_EXIT_FILE = 64


class Follower:
    """Keeps the dispatches in step with Slurm."""

    def __init__(
        self,
        registry: Registry,
        slurm: SlurmBackend,
        users: Users,
        *,
        root: Path,
        missing_after_s: float,
        kill_after_s: float,
    ) -> None:
        """Prepare.

        Args:
            registry: The dispatches.
            slurm: For questions about single jobs, and for cancelling.
            users: As whom to ask and to cancel.
            root: The job_storage_root.
            missing_after_s: How long a working Slurm must not know a job, in seconds.
            kill_after_s: How long a cancelled job may go on before it is killed, in seconds.
        """
        self._registry, self._slurm, self._users, self._root = registry, slurm, users, root
        self._missing_after_s, self._kill_after_s = missing_after_s, kill_after_s
        self._questions = asyncio.Semaphore(_QUESTIONS_AT_ONCE)
        self._cancelled_at: dict[SlurmJobId, float] = {}

    def is_needed(self) -> bool:
        """Say whether any dispatch can change by itself."""
        return any(
            not dispatch.state.is_final or dispatch.submission is Submission.REFUSED
            for dispatch in self._registry.all()
        )

    async def follow(self, rows: Sequence[JobRow]) -> None:
        """Apply one look at all jobs of everybody."""
        by_id = {row.id: row for row in rows}
        vanished: dict[Dispatch, bool] = {}
        async with asyncio.TaskGroup() as group:
            for dispatch in self._registry.all():
                if dispatch.state.is_final or dispatch.submission is not Submission.SUBMITTED:
                    continue
                row = by_id.get(dispatch.job_id) if dispatch.job_id else None
                if row is None or not is_job_of(dispatch, row):
                    # With another job under its id, asking for the id would tell of that one.
                    vanished[dispatch] = row is None
                elif with_row(dispatch, row, dispatch.updated_at) != dispatch:
                    group.create_task(self._apply(dispatch.id, _row_change(row)))
        await self._follow_vanished(vanished)
        await self._follow_names(rows)
        await self._press(by_id)

    async def _follow_vanished(self, vanished: Mapping[Dispatch, bool]) -> None:
        """Look further for jobs that are in no list; the value says whether to ask for the id."""
        if not vanished:
            return
        async with asyncio.TaskGroup() as group:
            tasks = {
                dispatch: group.create_task(self._look_closer(dispatch, ask=ask))
                for dispatch, ask in vanished.items()
            }
        without = [dispatch for dispatch, task in tasks.items() if not task.result()]
        ids = [dispatch.job_id for dispatch in without if dispatch.job_id]
        accounted = await self._slurm.accounted(ids)
        for dispatch in without:
            row = accounted.get(dispatch.job_id) if dispatch.job_id else None
            if row is not None and row.state.phase is Phase.ENDED:
                await self._apply(dispatch.id, _row_change(row))
            else:
                await self._apply(dispatch.id, self._no_trace)

    async def _look_closer(self, dispatch: Dispatch, *, ask: bool) -> bool:
        """Ask for one job by its id and for what it left; say whether anything was learned.

        A question that is not answered counts as learned: then nothing is known, and nothing is
        concluded from that.
        """
        async with self._questions:
            try:
                user = await self._users.get(dispatch.owner)
                if ask and dispatch.job_id is not None:
                    row = await self._slurm.job(dispatch.job_id, user=user)
                    if row is not None:
                        await self._apply(dispatch.id, _row_change(row))
                        return True
                folder = files.job_folder(self._root, dispatch.owner, dispatch.id)
                path = folder / files.EXIT
                if await user.size(path) is None:
                    return False
                data = await user.read(path, offset=0, limit=_LONGEST_EXIT_FILE)
            except LauncherError as error:
                log.warning(
                    "a job that Slurm does not list could not be asked for: %s",
                    error,
                    extra={"dispatch_id": dispatch.id},
                )
                return True
        left = parse_exit_file(data)
        if left is None or left.job_id != dispatch.job_id:
            return False
        await self._apply(dispatch.id, lambda found: with_exit_file(found, left, now()))
        return True

    def _no_trace(self, dispatch: Dispatch) -> Dispatch:
        return without_trace(dispatch, now(), missing_after_s=self._missing_after_s)

    async def _follow_names(self, rows: Sequence[JobRow]) -> None:
        """Find the jobs of doubtful submissions, and end jobs that nobody was promised."""
        dispatches = self._registry.all()
        found = find_jobs(dispatches, rows)
        strays: list[tuple[Dispatch, JobRow]] = []
        for dispatch in dispatches:
            own = found.get(dispatch.id, [])
            match dispatch.submission:
                case Submission.DOUBTFUL:
                    row = choose_job(own)
                    await self._apply(dispatch.id, _adopt(row) if row else self._no_trace)
                case Submission.REFUSED:
                    strays += [(dispatch, row) for row in own]
                case Submission.SUBMITTED:
                    strays += [(dispatch, row) for row in own if row.id != dispatch.job_id]
                case Submission.PREPARING | Submission.SUBMITTING:
                    pass  # the launch itself is at work
        for dispatch, row in strays:
            if row.state.phase in (Phase.WAITING, Phase.RUNNING):
                log.warning(
                    "cancelling a job of a submission that was given up",
                    extra={"dispatch_id": dispatch.id, "job_id": row.id},
                )
                await self._cancel(dispatch.owner, [row.id])

    async def _press(self, by_id: Mapping[SlurmJobId, JobRow]) -> None:
        """Cancel again what was to end and has not; with SIGKILL, because it had its time."""
        due: defaultdict[tuple[str, bool], list[SlurmJobId]] = defaultdict(list)
        for dispatch in self._registry.all():
            job_id, asked_at = dispatch.job_id, dispatch.terminate_requested_at
            if dispatch.state.is_final or job_id is None or asked_at is None:
                continue
            row = by_id.get(job_id)
            if row is None or row.state.phase is Phase.ENDED:
                continue
            last = self._cancelled_at.get(job_id)
            if last is not None and time.monotonic() - last < self._kill_after_s:
                continue
            waited_s = (now() - asked_at).total_seconds()
            due[dispatch.owner, waited_s >= self._kill_after_s].append(job_id)
        for (owner, has_had_time), ids in due.items():
            if has_had_time:
                await self._cancel(owner, ids, signal="KILL")
            await self._cancel(owner, ids)

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
        if after.state.is_final and after.job_id is not None:
            self._cancelled_at.pop(after.job_id, None)


def _row_change(row: JobRow) -> Callable[[Dispatch], Dispatch]:
    return lambda dispatch: with_row(dispatch, row, now())


def _adopt(row: JobRow) -> Callable[[Dispatch], Dispatch]:
    return lambda dispatch: adopted(dispatch, row)
