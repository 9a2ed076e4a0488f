"""Bring a dispatch to Slurm, once."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from shipway_launcher.carriers.table import Manager, manager_of
from shipway_launcher.dispatches import files
from shipway_launcher.dispatches.match import adopted, choose_job, find_jobs
from shipway_launcher.dispatches.prepare import Prepared
from shipway_launcher.dispatches.record import Dispatch, Event, Submission, now
from shipway_launcher.dispatches.registry import REPORTER, Registry
from shipway_launcher.dispatches.state import DispatchState
from shipway_launcher.dispatches.store import DispatchStore
from shipway_launcher.errors import (
    BackendRefused,
    BackendUnreachable,
    LauncherError,
    SubmissionDoubtful,
)
from shipway_launcher.slurm.backend import SlurmBackend
from shipway_launcher.slurm.rows import JobRow, SlurmJobId
from shipway_launcher.transport.base import Transport
from shipway_launcher.watch import Watch

log = logging.getLogger(__name__)

_LOOK_AGAIN_S = 2.0
_REPEATS = 1


class Submitter:
    """Writes a dispatch's files and submits its job.

    Before anything is done outside, the record on disk says that it may be done; so whatever ends
    the launcher, the next one knows what to look for.
    """

    def __init__(
        self,
        registry: Registry,
        store: DispatchStore,
        slurm: SlurmBackend,
        watch: Watch,
        *,
        root: Path,
        settle_s: float,
        own_user: str,
    ) -> None:
        """Prepare.

        Args:
            registry: The dispatches.
            store: For what the submission says.
            slurm: Where jobs go.
            watch: To look for a job whose submission had no clear answer.
            root: The job_storage_root.
            settle_s: How long to look for it before answering the caller, in seconds.
            own_user: As whom the watch looks.
        """
        self._registry, self._store, self._slurm, self._watch = registry, store, slurm, watch
        self._root, self._settle_s, self._own_user = root, settle_s, own_user

    async def submit(self, dispatch: Dispatch, prepared: Prepared, user: Transport) -> Dispatch:
        """Submit a new dispatch, which the registry already knows.

        Returns:
            It with its job's id; without one if Slurm has not said yet whether there is a job.

        Raises:
            LauncherError: There is no job, and there will be none. The dispatch has failed.
        """
        folder = files.job_folder(self._root, dispatch.owner, dispatch.id)
        try:
            await user.install(folder, prepared.entries)
            dispatch = await self._registry.update(dispatch.id, _submitting)
            if dispatch.state.is_final:
                return dispatch
            return await self._submit_once(dispatch, folder / files.SCRIPT, user)
        except LauncherError as error:
            await self._give_up(dispatch, error)
            raise
        except Exception:  # a mistake of ours; there may be a job, so the watch has to look
            await self._registry.update(dispatch.id, _doubtful)
            raise

    async def _submit_once(self, dispatch: Dispatch, script: Path, user: Transport) -> Dispatch:
        doubt = ""
        for _ in range(1 + _REPEATS):
            try:
                job_id = await self._slurm.submit(script, user=user)
            except SubmissionDoubtful as error:
                log.warning(
                    "the submission gave no clear answer; looking for the job: %s",
                    error,
                    extra={"dispatch_id": dispatch.id},
                )
                doubt = str(error)
                settled = await self._settle(dispatch, user)
                if settled is not None:
                    return settled
            else:
                return await self._registry.update(
                    dispatch.id, functools.partial(_submitted, job_id=job_id)
                )
        raise BackendUnreachable(f"the job was not made: {doubt}")

    async def _settle(self, dispatch: Dispatch, user: Transport) -> Dispatch | None:
        """Look for the job by its name, as its owner sees it; None: there is surely none.

        When Slurm does not answer for too long, the dispatch is left doubtful: the watch goes on
        looking.
        """
        deadline = time.monotonic() + self._settle_s
        misses = 0
        while time.monotonic() < deadline:
            seen = await self._look(user)
            if seen is not None:
                rows = find_jobs([dispatch], seen).get(dispatch.id, [])
                row = choose_job(rows)
                if row is not None:
                    log.info("the job is there", extra={"dispatch_id": dispatch.id})
                    return await self._registry.update(
                        dispatch.id, functools.partial(adopted, row=row)
                    )
                misses += 1
                if misses >= 2:
                    return None
            await asyncio.sleep(_LOOK_AGAIN_S)
        event = Event(
            level="INFO",
            at=now(),
            reporter=REPORTER,
            message=f"{manager_of(dispatch.carrier).label} has not said whether it took the job;"
            " it is being looked for.",
        )
        return await self._registry.update(
            dispatch.id,
            lambda found: replace(
                found.moved(found.state, at=now(), event=event), submission=Submission.DOUBTFUL
            ),
        )

    async def _look(self, user: Transport) -> Sequence[JobRow] | None:
        """Return all jobs; None: there is no answer now.

        Sites may show jobs to their owners only, and what the watch does not see may be there.
        """
        seen = await self._watch.fresh()
        if seen.error is not None or user.user == self._own_user:
            return None if seen.error is not None else seen.rows
        try:
            return [*seen.rows, *await self._slurm.jobs(user=user)]
        except LauncherError as error:
            log.info("no answer about the jobs of %s: %s", user.user, error)
            return None

    async def _give_up(self, dispatch: Dispatch, error: LauncherError) -> None:
        text = error.stderr if isinstance(error, BackendRefused) else str(error)
        await asyncio.to_thread(self._store.save_submission_log, dispatch.id, f"{text}\n")
        event = Event(
            level="ERROR",
            at=now(),
            reporter=dispatch.carrier,
            message=refusal_text(error, manager_of(dispatch.carrier)),
        )

        def failed(found: Dispatch) -> Dispatch:
            if found.state.is_final:
                return found
            ended = found.moved(DispatchState.FAILED, at=now(), event=event)
            return replace(ended, submission=Submission.REFUSED)

        await self._registry.update(dispatch.id, failed)


def refusal_text(error: LauncherError, manager: Manager) -> str:
    """Say why there is no job, in the form in which the master finds what sbatch or qsub said."""
    if isinstance(error, BackendRefused):
        status, said = error.exit_status, error.stderr.strip()
    elif isinstance(error, BackendUnreachable):
        # Not in sbatch's own words: by those the master knows a submission not worth repeating.
        cause = re.sub(r"sbatch: error: |Batch job submission failed: ", "", str(error))
        whose = "Slurm's controller" if manager is Manager.SLURM else "PBS's server"
        status, said = 1, f"no job was made, because {whose} does not answer: {cause}"
    else:
        return str(error)
    return f"{manager.label} job process terminated with exit code {status}:\n{said}\n"


def _submitting(dispatch: Dispatch) -> Dispatch:
    """Note that sbatch may run from now on; not if the end has been asked for."""
    if dispatch.terminate_requested_at is not None:
        ended = dispatch.moved(DispatchState.TERMINATED, at=now())
        return replace(ended, submission=Submission.REFUSED)
    return replace(dispatch, submission=Submission.SUBMITTING)


def _doubtful(dispatch: Dispatch) -> Dispatch:
    return dispatch if dispatch.job_id else replace(dispatch, submission=Submission.DOUBTFUL)


def _submitted(dispatch: Dispatch, job_id: SlurmJobId) -> Dispatch:
    label = manager_of(dispatch.carrier).label
    event = Event(
        level="INFO", at=now(), reporter=REPORTER, message=f"Submitted as {label} job {job_id}."
    )
    moved = dispatch.moved(dispatch.state, at=now(), event=event)
    return replace(moved, job_id=job_id, submission=Submission.SUBMITTED)
