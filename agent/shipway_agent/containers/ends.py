"""How the end of a container is told to the master."""

from __future__ import annotations

from shipway_agent.errors import (
    AgentError,
    ContainerNotFound,
    RuntimeUnavailable,
    StartRefused,
)
from shipway_agent.master.messages import Failure, FailureType
from shipway_agent.runtimes.spec import Exit

GONE = "container is gone on reattachment"
"""The original's words; masters and their users look for them in task logs."""


def failure_of_exit(ended: Exit) -> Failure | None:
    """Return what an exit means; None: success."""
    code = ended.code
    if code is None and ended.signal is not None:
        code = 128 + ended.signal
    if code == 0:
        return None
    why = "; ".join(
        part for part in ("out of memory" if ended.out_of_memory else "", ended.reason) if part
    )
    if code is None:
        return Failure(
            type=FailureType.TASK_ERROR,
            message=f"receiving container exit: {why or 'the runtime does not know the exit code'}",
        )
    message = f"container failed with non-zero exit code: {code}"
    return Failure(
        type=FailureType.CONTAINER_FAILED,
        message=f"{message} ({why})" if why else message,
        exit_code=code,
    )


def failure_of_launch(error: AgentError, step: str) -> Failure:
    """Return what it means that *step* of a launch failed.

    A runtime that does not answer is the agent's fault, and the task may be tried elsewhere; what
    the runtime refuses is the task's.
    """
    if isinstance(error, RuntimeUnavailable | StartRefused):
        return Failure(type=FailureType.AGENT_ERROR, message=f"{step}: {error}")
    return Failure(type=FailureType.TASK_ERROR, message=f"{step}: {error}")


def failure_of_loss(error: ContainerNotFound) -> Failure:
    """Return what it means that a running container cannot be found any more."""
    return Failure(
        type=FailureType.TASK_ERROR,
        message=f"failed while waiting for container to exit: {error}; its exit code is lost",
    )


def failure_of_stop(failure: Failure) -> Failure:
    """Return what it means that a container failed after the agent itself had ended it.

    It is not the task's fault: a master tries such a task again and counts no failure.
    """
    return Failure(
        type=FailureType.AGENT_FAILED,
        message=f"the agent was stopped and ended its containers: {failure.message}",
        exit_code=failure.exit_code,
    )


KILLED_BEFORE_RUN = Failure(type=FailureType.CONTAINER_ABORTED, message="killed before run")

AGENT_STOPPED = Failure(
    type=FailureType.AGENT_ERROR, message="the agent was stopped before the container ran"
)

UNKNOWN_CONTAINER = Failure(type=FailureType.CONTAINER_MISSING, message=GONE)

LAUNCH_CUT_OFF = Failure(
    type=FailureType.RESTORE_ERROR,
    message="the agent ended while it launched the container",
)

GONE_AFTER_RESTART = Failure(type=FailureType.RESTORE_ERROR, message=GONE)

GONE_AFTER_OUTAGE = Failure(
    type=FailureType.RESTORE_ERROR, message="failed to restore container on master blip"
)
