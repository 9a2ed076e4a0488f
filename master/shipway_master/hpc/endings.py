"""How a job ended, told to its allocation and to the user."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from shipway_master.allocations.exits import Failure, FailureType
from shipway_master.allocations.life import ResourcesState
from shipway_master.cluster.manager import Change
from shipway_master.hpc.client import LauncherClient
from shipway_master.hpc.dispatch import Dispatch
from shipway_master.hpc.errors import LauncherError
from shipway_master.hpc.messages import (
    collect_messages,
    cut_error_log,
    find_exit_code,
    find_reason,
    was_preempted,
)
from shipway_master.hpc.reading import DispatchState, DispatchStatus

log = logging.getLogger(__name__)

LOST = "HPC launcher job lost. Assuming job terminated."


async def explain(dispatch: Dispatch, status: DispatchStatus, client: LauncherClient) -> str:
    """Collect what the user is told about the end; empty when there is nothing to tell."""
    messages = collect_messages(status.events)
    if status.state is DispatchState.MISSING:
        messages.append(LOST)
    if status.state is not DispatchState.COMPLETED:
        messages.append(await _fetch_error_log(dispatch, client))
    return "\n".join(text.strip("\n") for text in messages if text.strip())


_NODE_REASONS = ("NodeFail", "BootFail")
_NO_PREEMPTION = ("Cancelled", "DeadLine", "OutOfMemory", "TimeLimit")
"""Slurm ended the job by force, and not for another job. The signal that comes first is the same, so
the job may have announced a pre-emption."""


def make_change(status: DispatchStatus, text: str) -> Change:
    """What a final state means for the job's allocation."""
    messages = [event.message for event in status.events]
    return Change(
        state=ResourcesState.TERMINATED,
        failure=_find_failure(status, messages, text),
        is_preempted=was_preempted(messages),
    )


def _find_failure(status: DispatchStatus, messages: Sequence[str], text: str) -> Failure | None:
    """Only a job's own exit code is named. One that was cancelled or lost has none."""
    match status.state:
        case DispatchState.COMPLETED:
            return None
        case DispatchState.TERMINATED:
            message, code = "the job was terminated", status.exit_code
        case DispatchState.MISSING:
            message, code = LOST, None
        case _:
            code = status.exit_code
            if code is None:
                code = find_exit_code(messages)
            message = "the job failed" if not text else text.split("\n", 1)[0].rstrip(": ")
            reason = find_reason(messages)
            if reason in _NODE_REASONS:
                return Failure(type=FailureType.AGENT_FAILED, message=message)
            if reason in _NO_PREEMPTION:
                return Failure(type=FailureType.TASK_ERROR, message=message, exit_code=code or None)
    return Failure(type=FailureType.RESOURCES_FAILED, message=message, exit_code=code or None)


async def _fetch_error_log(dispatch: Dispatch, client: LauncherClient) -> str:
    record = dispatch.record
    try:
        text = await client.fetch_log(
            record.owner, record.id, f"{record.payload}-error.log", last_lines=500
        )
    except LauncherError as error:
        log.debug("no error log", extra={"dispatch_id": record.id, "error": str(error)})
        return ""
    return cut_error_log(text, all_running=dispatch.holder.are_all_running)
