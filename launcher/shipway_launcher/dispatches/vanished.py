"""Find out what became of jobs that the controller no longer lists."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shipway_launcher.dispatches import files
from shipway_launcher.dispatches.match import adopted, choose_job, find_jobs, is_job_of
from shipway_launcher.dispatches.outcome import (
    parse_exit_file,
    with_exit_file,
    with_row,
    without_trace,
)
from shipway_launcher.dispatches.record import Dispatch, DispatchId, now
from shipway_launcher.errors import BackendError, LauncherError, TransportError
from shipway_launcher.slurm.backend import SlurmBackend
from shipway_launcher.slurm.rows import JobRow
from shipway_launcher.slurm.states import Phase
from shipway_launcher.users import Users

log = logging.getLogger(__name__)

Change = Callable[[Dispatch], Dispatch]

_AT_ONCE = 16
_MOST = 5000
"""Looked after in one round: the ids of more do not fit into one argument of sacct."""
_LONGEST_EXIT_FILE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """For how long a job may be unknown before it is called missing, in seconds."""

    missing_after_s: float
    """Where everybody who could know it was asked and answered."""
    unanswered_after_s: float
    """Where the accounting database did not answer."""


class Searcher:
    """Looks for the evidence in its order: the owner's view, accounting, what the script left.

    What could not be asked changes nothing: "I was not told" is not "it is not there".
    """

    def __init__(
        self, slurm: SlurmBackend, users: Users, *, root: Path, patience: Patience
    ) -> None:
        """Prepare; *root* is the job_storage_root."""
        self._slurm, self._users, self._root, self._patience = slurm, users, root, patience
        self._limit = asyncio.Semaphore(_AT_ONCE)
        self._is_accounting_silent = False

    async def search(self, vanished: Sequence[Dispatch]) -> Mapping[DispatchId, Change]:
        """Return what to change about the dispatches; those that nothing is known of are absent.

        Args:
            vanished: With a job's id, or without one if it is not known whether there is a job.
        """
        changes: dict[DispatchId, Change] = {}
        if not vanished:
            return changes
        left = await self._ask_owners(vanished[:_MOST], changes)
        is_answered = await self._ask_accounting(left, changes)
        left = [dispatch for dispatch in left if dispatch.id not in changes]
        patience = self._patience
        after_s = patience.missing_after_s if is_answered else patience.unanswered_after_s
        async with asyncio.TaskGroup() as group:
            tasks = {
                dispatch.id: group.create_task(self._read_exit(dispatch, after_s))
                for dispatch in left
            }
        found = {dispatch_id: task.result() for dispatch_id, task in tasks.items()}
        return changes | {name: change for name, change in found.items() if change is not None}

    async def _ask_owners(
        self, left: Sequence[Dispatch], changes: dict[DispatchId, Change]
    ) -> list[Dispatch]:
        """Ask as each owner, where a site hides jobs from others; return what is still unknown."""
        by_owner: defaultdict[str, list[Dispatch]] = defaultdict(list)
        for dispatch in left:
            by_owner[dispatch.owner].append(dispatch)
        unknown = by_owner.pop(self._users.own.user, [])
        async with asyncio.TaskGroup() as group:
            tasks = {owner: group.create_task(self._list_as(owner)) for owner in by_owner}
        for owner, dispatches in by_owner.items():
            rows = tasks[owner].result()
            if rows is None:
                continue
            found = _find(dispatches, rows)
            changes |= found
            unknown += [dispatch for dispatch in dispatches if dispatch.id not in found]
        return unknown

    async def _list_as(self, owner: str) -> list[JobRow] | None:
        async with self._limit:
            try:
                return await self._slurm.jobs(user=await self._users.get(owner))
            except LauncherError as error:
                log.warning("cannot ask Slurm as %s: %s", owner, error)
                return None

    async def _ask_accounting(
        self, left: Iterable[Dispatch], changes: dict[DispatchId, Change]
    ) -> bool:
        """Ask for all jobs at once; say whether there was an answer, or is nobody to ask."""
        by_id = {dispatch.job_id: dispatch for dispatch in left if dispatch.job_id}
        if not by_id:
            return True
        try:
            rows = await self._slurm.accounted(list(by_id))
        except (BackendError, TransportError) as error:
            if not self._is_accounting_silent:
                log.warning("accounting does not answer; unknown jobs are kept: %s", error)
            self._is_accounting_silent = True
            return False
        self._is_accounting_silent = False
        for job_id, row in rows.items():
            dispatch = by_id.get(job_id)
            has_ended = row.state.phase is Phase.ENDED
            if dispatch is not None and has_ended and is_job_of(dispatch, row):
                changes[dispatch.id] = row_change(row)
        return True

    async def _read_exit(self, dispatch: Dispatch, after_s: float) -> Change | None:
        """Read what the script left; None: that could not be found out."""
        if dispatch.job_id is None:
            return no_trace(after_s)
        path = files.job_folder(self._root, dispatch.owner, dispatch.id) / files.EXIT
        async with self._limit:
            try:
                user = await self._users.get(dispatch.owner)
                size = await user.size(path)
                data = (
                    b""
                    if size is None
                    else await user.read(path, offset=0, limit=_LONGEST_EXIT_FILE)
                )
            except LauncherError as error:
                log.warning(
                    "cannot look at what a job left that Slurm does not list: %s",
                    error,
                    extra={"dispatch_id": dispatch.id},
                )
                return None
        left = parse_exit_file(data)
        if left is not None and left.job_id == dispatch.job_id:
            return lambda found: with_exit_file(found, left, now())
        return no_trace(after_s)


def _find(dispatches: Sequence[Dispatch], rows: Sequence[JobRow]) -> dict[DispatchId, Change]:
    """Find jobs by their ids, and those of doubtful submissions by their names."""
    by_id = {row.id: row for row in rows}
    changes: dict[DispatchId, Change] = {}
    for dispatch in dispatches:
        if dispatch.job_id is not None:
            row = by_id.get(dispatch.job_id)
            if row is not None and is_job_of(dispatch, row):
                changes[dispatch.id] = row_change(row)
    doubtful = [dispatch for dispatch in dispatches if dispatch.job_id is None]
    for dispatch_id, found in find_jobs(doubtful, rows).items():
        chosen = choose_job(found)
        if chosen is not None:
            changes[dispatch_id] = adoption(chosen)
    return changes


def adoption(row: JobRow) -> Change:
    """Return the change that takes a job that was found as a dispatch's own."""
    return lambda dispatch: adopted(dispatch, row)


def row_change(row: JobRow) -> Change:
    """Return the change that applies what Slurm says of the job."""
    return lambda dispatch: with_row(dispatch, row, now())


def no_trace(after_s: float) -> Change:
    """Return the change for a job that nobody knows; it is missing *after_s* seconds of that."""
    return lambda dispatch: without_trace(dispatch, now(), missing_after_s=after_s)
