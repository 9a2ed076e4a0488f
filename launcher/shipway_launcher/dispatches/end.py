"""End dispatches: cancel their jobs, and remove what is left of them."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from shipway_launcher.dispatches import files
from shipway_launcher.dispatches.cancelmark import leave_cancel_mark
from shipway_launcher.dispatches.follow import Follower
from shipway_launcher.dispatches.record import Dispatch, DispatchId, Submission, now
from shipway_launcher.dispatches.registry import Registry
from shipway_launcher.dispatches.state import DispatchState
from shipway_launcher.errors import BackendUnreachable, LauncherError, NotFound
from shipway_launcher.slurm.backend import SlurmBackend
from shipway_launcher.users import Users
from shipway_launcher.watch import Watch

log = logging.getLogger(__name__)

_END_LIMIT_S = 90.0
_LOOK_S = 0.5


class Ender:
    """Cancels and deletes."""

    def __init__(
        self,
        registry: Registry,
        slurm: SlurmBackend,
        users: Users,
        watch: Watch,
        follower: Follower,
        *,
        root: Path,
    ) -> None:
        """Prepare; *root* is the job_storage_root."""
        self._registry, self._slurm, self._users = registry, slurm, users
        self._watch, self._follower, self._root = watch, follower, root

    async def request_end(self, dispatch_id: DispatchId) -> Dispatch:
        """Note that a dispatch is to end; the watch sees to it.

        Raises:
            NotFound: There is no such dispatch.
        """
        return await self._registry.update(dispatch_id, _terminating)

    async def terminate(self, dispatch_id: DispatchId) -> Dispatch:
        """Ask for the end of a dispatch and cancel its job; harmless if it has ended.

        The watch sees to the rest: it kills what does not go, and cancels again what was not
        reached. A job whose id is not known yet is cancelled when it is.

        Raises:
            NotFound: There is no such dispatch.
            LauncherError: Slurm did not take the request yet; it will be tried again.
        """
        dispatch = await self.request_end(dispatch_id)
        if dispatch.state.is_final or dispatch.job_id is None:
            return dispatch
        user = await self._users.get(dispatch.owner)
        await leave_cancel_mark(user, files.job_folder(self._root, dispatch.owner, dispatch.id))
        await self._slurm.cancel([dispatch.job_id], user=user)
        self._follower.note_cancelled([dispatch.job_id])
        return dispatch

    async def delete(self, dispatch_id: DispatchId) -> None:
        """Remove a dispatch and its files; a job that lives is ended first.

        Raises:
            NotFound: There is no such dispatch.
            LauncherError: It has not ended in time, or its files cannot be removed; it is still
                there.
        """
        dispatch = await self._registry.update(dispatch_id, lambda found: found)
        if not dispatch.state.is_final:
            await self.terminate(dispatch_id)
            dispatch = await self.wait_for_end(dispatch_id)
        user = await self._users.get(dispatch.owner)
        await user.remove(files.job_folder(self._root, dispatch.owner, dispatch.id))
        await self._registry.remove(dispatch_id)

    async def wait_for_end(self, dispatch_id: DispatchId) -> Dispatch:
        """Wait until a dispatch has ended whose end was asked for.

        Raises:
            NotFound: There is no such dispatch.
            LauncherError: It has not ended in time, or Slurm does not answer.
        """
        deadline = time.monotonic() + _END_LIMIT_S
        while True:
            seen = await self._watch.fresh()
            dispatch = await self._registry.update(dispatch_id, lambda found: found)
            if dispatch.state.is_final:
                return dispatch
            if seen.error is not None:
                raise seen.error
            if time.monotonic() > deadline:
                raise BackendUnreachable(
                    f"job {dispatch.job_id} has not ended in {_END_LIMIT_S:g} s after its cancel"
                )
            await asyncio.sleep(_LOOK_S)

    async def expire(self, *, keep_ended: timedelta, keep_refused: timedelta) -> None:
        """Remove what ended long ago and what nobody came back for."""
        for dispatch in self._registry.all():
            is_refused = dispatch.submission is Submission.REFUSED
            keep = keep_refused if is_refused else keep_ended
            if not dispatch.state.is_final or now() - dispatch.updated_at < keep:
                continue
            try:
                await self.delete(dispatch.id)
            except NotFound:
                continue
            except LauncherError as error:
                log.warning(
                    "an ended dispatch could not be removed: %s",
                    error,
                    extra={"dispatch_id": dispatch.id},
                )


def _terminating(dispatch: Dispatch) -> Dispatch:
    if dispatch.state.is_final or dispatch.terminate_requested_at is not None:
        return dispatch
    moved = dispatch.moved(DispatchState.TERMINATING, at=now())
    return replace(moved, terminate_requested_at=moved.updated_at)
