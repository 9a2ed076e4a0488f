"""The states of a PBS job, and what each means for who waits for the job."""

from __future__ import annotations

import re
from collections.abc import Mapping

from shipway_launcher.slurm.rows import WaitStatus
from shipway_launcher.slurm.states import End, JobState, Phase

_LIVING: Mapping[str, JobState] = {
    letter: JobState(word=word, phase=phase)
    for letters, word, phase in (
        ("Q T W H", "PENDING", Phase.WAITING),
        ("R B", "RUNNING", Phase.RUNNING),
        ("S U", "SUSPENDED", Phase.RUNNING),
        ("E", "COMPLETING", Phase.ENDING),
    )
    for letter in letters.split()
}
_ENDED = frozenset("FX")
_DELETED = 91
"""Substate of a job that was ended by qdel."""
_SIGNALLED = 256
"""Added to the number of the signal that ended a job's script."""
_KILLED_BY_PBS = {
    **dict.fromkeys((-26, -27), End.OUT_OF_MEMORY),
    **dict.fromkeys((-24, -25, -28), End.FAILED),
    -29: End.TIMED_OUT,
}
"""Other negative numbers: the job could not be started, or not again."""

_WAITS = (
    (r"can never run|will never run", "BadConstraints"),
    (r"insufficient amount|not enough|no available resources|not available", "Resources"),
    (r"reservation|top job", "Priority"),
    (r"limit", "QOSLimit"),
    (r"dependency|depend", "Dependency"),
    (r"queue .*(?:not started|stopped)|not started", "PartitionInactive"),
    (r"held", "JobHeld"),
)


def read_state(
    letter: str, *, substate: int | None, exit_status: int | None, comment: str = ""
) -> JobState:
    """Say what a job's state means; one that nobody knows means "keep watching"."""
    living = _LIVING.get(letter)
    if living is not None:
        return living
    if letter not in _ENDED:  # M: it has been moved to another server
        return JobState(word=letter or "UNKNOWN", phase=Phase.UNKNOWN)
    end = _read_end(substate, exit_status)
    if end is End.CANCELLED and re.search("preempt", comment, re.IGNORECASE):
        end = End.PREEMPTED
    return JobState(word=end.name, phase=Phase.ENDED, end=end)


def _read_end(substate: int | None, exit_status: int | None) -> End:
    if substate == _DELETED:
        return End.CANCELLED
    if exit_status is None:  # it was deleted before it ran
        return End.CANCELLED
    if exit_status < 0:
        return _KILLED_BY_PBS.get(exit_status, End.COULD_NOT_START)
    return End.COMPLETED if exit_status == 0 else End.FAILED


def read_exit(exit_status: int | None) -> WaitStatus | None:
    """Split an exit status into code and signal; None where PBS itself ended the job."""
    if exit_status is None or exit_status < 0:
        return None
    if exit_status >= _SIGNALLED:
        return WaitStatus(code=0, signal=exit_status - _SIGNALLED)
    return WaitStatus(code=exit_status, signal=0)


def read_reason(letter: str, comment: str) -> str:
    """Turn the scheduler's comment into a word that stays the same, and the comment without times.

    The word is one of Slurm's, for which there are plain words.
    """
    if letter == "W":
        return "BeginTime"
    text = re.sub(r"\b(?:on|at) [A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ [\d:]+(?: \d{4})?", "", comment)
    text = " ".join(re.sub(r"^Not Running: *", "", text).split())
    if letter == "H" and not text:
        return "JobHeld"
    if letter not in "QTH" or not text:
        return "None"
    word = next((word for form, word in _WAITS if re.search(form, text, re.IGNORECASE)), None)
    return f"{word or 'Resources'}, {text}"
