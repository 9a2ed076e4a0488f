"""How one allocation is being brought to its end, and what its end was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from shipway_master.allocations.exits import EndFacts, Failure, FailureType, ShareFacts
from shipway_master.allocations.life import ResourcesState
from shipway_master.allocations.preemption import Preemption, PreemptionCause
from shipway_master.allocations.records import Share

_SIGNALLED = (None, 137, 143)
"""Exit codes of what was ended by force; Slurm jobs often have none."""


@dataclass(slots=True)
class EndingState:
    """Changed under the allocation's lock."""

    kill_reason: str | None = None
    """Why it is being killed."""
    was_whole_when_killed: bool = False
    """None of its shares had exited then."""
    killed_at: float | None = None
    is_repeating: bool = False
    """Somebody sees to it that the kill is repeated."""
    daemons_killed_gracefully: bool = False
    failures: list[Failure] = field(default_factory=list[Failure])

    def note_kill(self, reason: str, shares: Sequence[Share]) -> bool:
        """Remember why it is killed; True the first time."""
        if self.kill_reason is not None:
            return False
        self.kill_reason = reason
        self.was_whole_when_killed = not any(share.is_exited for share in shares)
        return True

    def take_turn(self, now: float, *, quiet_s: float) -> bool:
        """Whether a kill may be sent now; one too soon after another changes nothing."""
        if self.killed_at is not None and now - self.killed_at < quiet_s:
            return False
        self.killed_at = now
        return True

    def collect_facts(
        self, shares: Sequence[Share], preemption: Preemption, *, is_preemptible: bool
    ) -> EndFacts:
        """Everything that the outcome depends on."""
        exits = sum(share.is_exited for share in shares)
        by_force = bool(self.failures) and all(
            one.exit_code in _SIGNALLED and one.type is not FailureType.TASK_ERROR
            for one in self.failures
        )
        return EndFacts(
            failures=self.failures,
            exits=exits,
            is_killed_while_running=self.kill_reason is not None
            and (self.was_whole_when_killed or not exits),
            kill_reason=self.kill_reason or "",
            is_preemption_acked=preemption.is_acked and preemption.is_given,
            is_lost_to_scheduler=preemption.cause is PreemptionCause.SCHEDULER
            and is_preemptible
            and by_force,
            daemons_killed_gracefully=self.daemons_killed_gracefully,
        )


def were_ended_by_force(shares: Sequence[Share]) -> bool:
    """Say whether each share that exited was killed; so when none has."""
    return all(
        share.failure is not None and share.failure.exit_code in _SIGNALLED
        for share in shares
        if share.is_exited
    )


def list_facts(shares: Sequence[Share]) -> list[ShareFacts]:
    """What the rules about exits need to know of the shares."""
    return [
        ShareFacts(
            is_started=share.state is not ResourcesState.ASSIGNED,
            is_daemon=share.is_daemon,
            is_exited=share.is_exited,
            failure=share.failure,
        )
        for share in shares
    ]
