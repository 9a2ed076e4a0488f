"""What the end of one container means for the others, and all ends together for the task.

Pure rules; who acts on them is `allocation.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class FailureType(StrEnum):
    """Why resources failed, as agents write it on the wire."""

    RESOURCES_FAILED = "container failed with non-zero exit code"
    RESOURCES_ABORTED = "container was aborted before it started"
    RESOURCES_MISSING = "request for action on unknown container"
    TASK_ABORTED = "task was aborted before the task was started"
    TASK_ERROR = "task failed without an associated exit code"
    AGENT_FAILED = "agent failed while the container was running"
    AGENT_ERROR = "agent failed to launch the container"
    RESTORE_ERROR = "container failed to restore after agent failure"
    UNLAUNCHABLE = "task cannot be launched as it is"
    """The master's own finding; on no wire."""
    UNKNOWN = "unknown agent failure"


_task_texts = {
    FailureType.RESOURCES_FAILED: "resources failed with non-zero exit code",
    FailureType.RESOURCES_ABORTED: "resources was aborted before it started",
    FailureType.RESOURCES_MISSING: "request for action on unknown resources",
    FailureType.RESTORE_ERROR: "RM failed to restore the allocation",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One container or job that did not end well."""

    type: FailureType
    message: str
    exit_code: int | None = None

    def __str__(self) -> str:
        code = "" if self.exit_code is None else f" (exit code {self.exit_code})"
        return f"{_task_texts.get(self.type, self.type.value)}: {self.message}{code}"


def parse_failure_type(text: str) -> FailureType:
    """Read a wire text; one that nobody has heard of is UNKNOWN, never an exception."""
    try:
        return FailureType(text)
    except ValueError:
        return FailureType.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareFacts:
    """What the rules need to know of one container or job of an allocation."""

    is_started: bool
    is_daemon: bool
    is_exited: bool
    failure: Failure | None = None


class Step(StrEnum):
    """What to do after one of the shares exited."""

    END = "end"
    KILL_DAEMONS = "kill daemons"
    KILL_REST = "kill rest"
    WAIT = "wait"


def decide_after_exit(shares: Sequence[ShareFacts]) -> Step:
    """Say what follows from the exits seen so far; the first rule that fits wins."""
    if not any(share.is_started for share in shares) and not any(
        share.is_exited for share in shares
    ):
        return Step.END
    if all(share.is_exited for share in shares):
        return Step.END
    if all(share.is_exited for share in shares if not share.is_daemon):
        return Step.KILL_DAEMONS
    if any(share.failure is not None for share in shares):
        return Step.KILL_REST
    return Step.WAIT


class Ending(StrEnum):
    """What the end of an allocation means for its task."""

    FINISHED = "finished"
    STOPPED = "stopped"
    """Ended without an error and without being done: killed or pre-empted."""
    FAILED = "failed"
    LOST = "lost"
    """The platform failed, not the task: trying again costs the task nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of an allocation."""

    ending: Ending
    reason: str
    exit_code: int | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndFacts:
    """Everything that the outcome of an allocation depends on."""

    failures: Sequence[Failure]
    """In the order in which they were recorded."""
    exits: int
    is_killed_while_running: bool
    """Killed before the first of its shares had exited."""
    kill_reason: str = ""
    is_preemption_acked: bool = False
    is_lost_to_scheduler: bool = False
    """The scheduler announced its preemption and then ended it by force, unacknowledged."""
    daemons_killed_gracefully: bool = False


_lost_types = frozenset(
    {
        FailureType.AGENT_FAILED,
        FailureType.AGENT_ERROR,
        FailureType.RESTORE_ERROR,
        FailureType.RESOURCES_ABORTED,
        FailureType.TASK_ABORTED,
        FailureType.RESOURCES_MISSING,
    }
)


def decide_outcome(facts: EndFacts) -> Outcome:
    """Turn the facts at the end into the outcome; the first rule that fits wins."""
    first = facts.failures[0] if facts.failures else None
    code = first.exit_code if first is not None else (0 if facts.exits else None)
    if facts.is_killed_while_running:
        return Outcome(
            ending=Ending.STOPPED,
            reason=f"allocation killed after {facts.kill_reason}",
            exit_code=code,
            failure=first,
        )
    if facts.is_preemption_acked or facts.is_lost_to_scheduler:
        how = "acknowledging preemption" if facts.is_preemption_acked else "preemption"
        return Outcome(
            ending=Ending.STOPPED,
            reason=f"allocation stopped after {how}",
            exit_code=code,
            failure=first,
        )
    if first is None:
        if not facts.exits:
            return Outcome(
                ending=Ending.STOPPED, reason="allocation stopped before it had resources"
            )
        return Outcome(
            ending=Ending.FINISHED,
            reason="allocation stopped early after all containers exited",
            exit_code=0,
        )
    if facts.daemons_killed_gracefully:
        return Outcome(
            ending=Ending.FINISHED,
            reason="allocation ended its daemons as part of a normal exit",
            exit_code=0,
        )
    return _decide_failure(first)


def _decide_failure(failure: Failure) -> Outcome:
    match failure.type:
        case FailureType.RESTORE_ERROR:
            reason = f"allocation failed due to restore error: {failure}"
        case FailureType.AGENT_FAILED | FailureType.AGENT_ERROR:
            reason = f"allocation failed due to agent failure: {failure}"
        case FailureType.RESOURCES_ABORTED | FailureType.TASK_ABORTED:
            reason = f"allocation aborted: {failure}"
        case _:
            reason = f"allocation failed: {failure}"
    ending = Ending.LOST if failure.type in _lost_types else Ending.FAILED
    return Outcome(ending=ending, reason=reason, exit_code=failure.exit_code, failure=failure)
