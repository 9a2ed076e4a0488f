"""Handing a job to the launcher exactly once."""

from __future__ import annotations

import asyncio
import logging

from shipway_common.backoff import backoff_delays_s
from shipway_master.allocations.exits import Failure, FailureType
from shipway_master.hpc.client import LauncherClient
from shipway_master.hpc.dispatch import Dispatch
from shipway_master.hpc.errors import (
    LauncherError,
    LauncherRefused,
    LauncherUnreachable,
    LauncherUnreadable,
    TokenRefused,
)
from shipway_master.hpc.manifest import Site, Target, Unlaunchable, build_manifest
from shipway_master.hpc.reading import DispatchStatus
from shipway_master.tasks.launch import Launch

log = logging.getLogger(__name__)

UNREACHABLE = "Job launch failed. Verify that the launcher service is up and reachable."
OLD_LAUNCHER = (
    "HPC Launcher version is below the minimum required. Update to version 3.3.1 or greater."
)

_ABSENCES = 3


class LaunchFailed(Exception):
    """There is no job; or, with *may_exist*, nobody can say."""

    def __init__(self, failure: Failure, *, may_exist: bool = False) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.may_exist = may_exist


async def launch(
    client: LauncherClient,
    dispatch: Dispatch,
    started: Launch,
    target: Target,
    site: Site,
    *,
    user: str,
    lost_after_s: float,
) -> DispatchStatus:
    """Launch a job and return the launcher's answer.

    A launch whose answer did not come is looked for, and never repeated. One that did not reach the
    launcher is tried again while somebody wants it.

    Args:
        lost_after_s: How long a launcher that cannot be reached is waited for, in seconds.

    Raises:
        LaunchFailed: There is no job.
    """
    try:
        manifest = await asyncio.to_thread(
            build_manifest, started, dispatch.record.resources_id, target, site
        )
    except Unlaunchable as error:
        raise _failed(str(error), kind=FailureType.UNLAUNCHABLE) from error
    deadline = asyncio.get_running_loop().time() + lost_after_s
    was_token_refused, is_told = False, False
    for delay_s in backoff_delays_s(limit_s=10.0):
        try:
            return await client.launch(manifest, user=user, dispatch_id=dispatch.record.id)
        except TokenRefused as error:  # it may have been renewed, and is read anew
            if was_token_refused:
                raise _failed(str(error)) from error
            was_token_refused = True
            continue
        except LauncherUnreachable as error:
            text = f"{UNREACHABLE} {error}"
            if error.may_have_arrived:
                log.warning("the answer to a launch was lost", extra={"error": str(error)})
                return await look_for(client, dispatch, str(error), lost_after_s=lost_after_s)
            is_over = asyncio.get_running_loop().time() + delay_s >= deadline
            if is_over or dispatch.kill_wanted:
                # Nothing of the task has been done: trying again costs it nothing.
                raise _failed(text, kind=FailureType.AGENT_ERROR) from error
            if not is_told:
                await dispatch.holder.say(f"{text} It is tried again for {lost_after_s:.0f} s.")
                is_told = True
            await asyncio.sleep(delay_s)
        except LauncherUnreadable as error:
            return await look_for(client, dispatch, str(error), lost_after_s=lost_after_s)
        except LauncherRefused as error:
            raise _failed(str(error)) from error
    raise AssertionError("the delays have no end")


async def look_for(
    client: LauncherClient, dispatch: Dispatch, why: str, *, lost_after_s: float
) -> DispatchStatus:
    """Find out whether a launch has arrived. Unknown counts when it was said several times.

    Raises:
        LaunchFailed: It has not, or the launcher could not be asked within the time.
    """
    deadline = asyncio.get_running_loop().time() + lost_after_s
    absences = 0
    for delay_s in backoff_delays_s(limit_s=10.0):
        try:
            found = await client.find_dispatch(dispatch.record.id)
            if found is not None and found.state.is_final:  # how it ended is not in the lists
                return await client.fetch_status(found.owner, found.dispatch_id)
        except LauncherError as error:
            if asyncio.get_running_loop().time() >= deadline:
                raise _failed(f"{UNREACHABLE} {error}", may_exist=True) from error
            await asyncio.sleep(delay_s)
            continue
        if found is not None:
            return found
        absences += 1
        if absences == _ABSENCES:
            raise _failed(f"{UNREACHABLE} {why}")
        await asyncio.sleep(delay_s)
    raise AssertionError("the delays have no end")


def _failed(
    text: str,
    *,
    kind: FailureType = FailureType.RESOURCES_FAILED,
    may_exist: bool = False,
) -> LaunchFailed:
    failure = Failure(type=kind, message=text)
    return LaunchFailed(failure, may_exist=may_exist)
