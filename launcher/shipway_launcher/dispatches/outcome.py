"""What the evidence says about a dispatch; pure."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, replace
from datetime import datetime

from shipway_launcher.carriers.table import Manager, manager_of
from shipway_launcher.dispatches.record import Dispatch, Event, Submission
from shipway_launcher.dispatches.state import DispatchState
from shipway_launcher.slurm.reasons import explain_wait, split_reason
from shipway_launcher.slurm.rows import JobRow, SlurmJobId, WaitStatus
from shipway_launcher.slurm.states import End, Phase

_REASONS = {
    End.CANCELLED: ("Cancelled", "The job was cancelled, but not by way of the launcher"),
    End.TIMED_OUT: ("TimeLimit", "The job reached its time limit"),
    End.DEADLINE: ("DeadLine", "The job could not end before its deadline"),
    End.PREEMPTED: ("Preempted", "{} took the resources for a job of higher priority"),
    End.NODE_FAILED: ("NodeFail", "A node of the job failed"),
    End.OUT_OF_MEMORY: ("OutOfMemory", "The job used more memory than it was given"),
    End.COULD_NOT_START: ("BootFail", "{} could not start the job on its nodes"),
}
_REQUEUED = "{} put the job back into its queue; it cannot run a second time, and was cancelled"
_EARLY_S = 60
"""By how much more than the lead time Slurm may warn of a time limit."""
_BY_WARNING = {signal.SIGTERM, signal.SIGUSR1}
_MOST_REASONS = 20
_NODE_ERRORS = {
    4005: "it does not know the user",
    4010: "its folder for batch jobs could not be made",
    4012: "the job's script could not be written to its disk",
    4020: "the job's script could not be executed",
    4021: "the job's folder or an output file could not be opened",
    4022: "its prolog failed",
}
"""Of Slurm's errors 4000 to 4031, those that a job is likely to meet."""
_KILLED = (
    "Where nobody sent it, SIGKILL often means that the job used more memory than it was given"
)
_NEVER_RAN = (
    "The job ended soon after it was given nodes, and left no exit status: a node on which jobs"
    " cannot be started, by a prolog that fails for example, looks like this to older releases"
)
_PROLOG_S = 60
"""How long a prolog may take to fail; what ends by itself later has most likely run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftExit:
    """What a job's script wrote when it ended."""

    code: int
    job_id: SlurmJobId


def parse_exit_file(data: bytes) -> LeftExit | None:
    """Read what a script left; None if it is not whole."""
    match = re.fullmatch(rb"(\d{1,3}) (\d[A-Za-z0-9.-]*)\n", data)
    if match is None:
        return None
    return LeftExit(code=int(match.group(1)), job_id=SlurmJobId(match.group(2).decode()))


def with_row(dispatch: Dispatch, row: JobRow, at: datetime) -> Dispatch:
    """Apply what Slurm says of the job."""
    dispatch = _noting_preemption(replace(dispatch, unknown_since=None), row, at)
    match row.state.phase:
        case Phase.UNKNOWN | Phase.ENDING:  # keep watching
            return dispatch
        case Phase.WAITING:
            return _telling_reason(_living(dispatch, DispatchState.PENDING, at), row, at)
        case Phase.RUNNING:
            return _living(dispatch, DispatchState.RUNNING, at)
        case Phase.ENDED:
            return _ended(dispatch, row, at)


def with_exit_file(dispatch: Dispatch, left: LeftExit, at: datetime) -> Dispatch:
    """Apply what the job's script left, where Slurm no longer knows the job."""
    if left.code == 0:
        return _completed(dispatch, at)
    status = WaitStatus(code=left.code, signal=0)
    if dispatch.preempted_at is not None:
        return _preempted(dispatch, status, at)
    return _failed(dispatch, "NonZeroExitCode", [_exit_line(status), *_hints(status)], at)


def without_trace(dispatch: Dispatch, at: datetime, *, missing_after_s: float) -> Dispatch:
    """Apply that a working Slurm does not know the job, and nobody else either."""
    since = dispatch.unknown_since or at
    if (at - since).total_seconds() < missing_after_s:
        return replace(dispatch, unknown_since=since)
    if dispatch.terminate_requested_at is not None:
        return dispatch.moved(DispatchState.TERMINATED, at=at)
    if dispatch.submission is Submission.DOUBTFUL:
        text = (
            f"{manager_of(dispatch.carrier).label} gave no clear answer to the submission, and no"
            " such job exists; none was made"
        )
        failed = dispatch.moved(DispatchState.FAILED, at=at, event=_event(dispatch, text, at))
        return replace(failed, submission=Submission.REFUSED)
    text = (
        f"{_subject(dispatch)} is in a missing state: {manager_of(dispatch.carrier).label} does not"
        f" know job {dispatch.job_id} any more, and it left no exit code"
    )
    return dispatch.moved(DispatchState.MISSING, at=at, event=_event(dispatch, text, at))


def _living(dispatch: Dispatch, state: DispatchState, at: datetime) -> Dispatch:
    """Show the state, unless the end has been asked for: then it is ending until it has ended."""
    if dispatch.state in (state, DispatchState.TERMINATING):
        return dispatch
    return dispatch.moved(state, at=at)


def _noting_preemption(dispatch: Dispatch, row: JobRow, at: datetime) -> Dispatch:
    """Remember that Slurm takes the job's resources: when it is over, Slurm may not say so."""
    if row.preempted_at is None or dispatch.preempted_at is not None:
        return dispatch
    label = manager_of(dispatch.carrier).label
    text = f"{label} has announced at {row.preempted_at.isoformat()} that it preempts the job."
    noted = dispatch.moved(dispatch.state, at=at, event=_note(text, at))
    return replace(noted, preempted_at=row.preempted_at)


def _telling_reason(dispatch: Dispatch, row: JobRow, at: datetime) -> Dispatch:
    """Say why the job waits, each reason once; that it can never start stands out."""
    wait = explain_wait(row)
    if wait.word == "None" or wait.word in dispatch.reasons_told:
        return dispatch
    text = f"The job cannot start as it is. {wait.line}" if wait.is_hopeless else wait.line
    told = dispatch.moved(dispatch.state, at=at, event=_note(text, at))
    return replace(told, reasons_told=(*dispatch.reasons_told, wait.word)[-_MOST_REASONS:])


def _note(text: str, at: datetime) -> Event:
    """Make an event that the master does not show to users: it has its own words for them."""
    return Event(level="INFO", at=at, reporter="shipway-launcher", message=text)


def _ended(dispatch: Dispatch, row: JobRow, at: datetime) -> Dispatch:
    end, label = row.state.end, manager_of(dispatch.carrier).label
    if end is End.COMPLETED:
        return _completed(dispatch, at)
    status = row.exit or WaitStatus(code=0, signal=0)
    node_error = _node_error(dispatch, row, status)
    if node_error is not None:
        reason, lines = "JobLaunchFailure", [node_error]
    elif end is None or end is End.FAILED:
        if dispatch.preempted_at is not None:
            return _preempted(dispatch, status, at)
        reason, lines = _own_failure(dispatch, row, status)
    elif end is End.CANCELLED and row.restarts:
        if dispatch.preempted_at is not None:
            return _preempted(dispatch, status, at)
        reason, lines = "Requeued", [_REQUEUED.format(label)]
    else:
        reason, explained = _explain(end, label)
        is_plain = status == WaitStatus(code=0, signal=0)
        lines = [explained] if is_plain else [explained, _exit_line(status)]
        if end is End.CANCELLED and is_plain and _never_ran(row):
            lines.append(_NEVER_RAN)
    if end is not End.PREEMPTED:
        lines += _announcement(dispatch)
    return _failed(dispatch, reason, lines, at)


def _never_ran(row: JobRow) -> bool:
    """Guess whether a job without an exit status ended before its script began.

    A prolog that fails leaves no other sign in Slurm 22.05 than nodes and an early end.
    """
    if not (row.nodes and row.starts_at and row.ends_at):
        return False
    return (row.ends_at - row.starts_at).total_seconds() < _PROLOG_S


def _node_error(dispatch: Dispatch, row: JobRow, status: WaitStatus) -> str | None:
    """Say what hindered a node from starting the job; None if nothing did.

    Slurm keeps its own error (4022, say) as if it were a wait status, of which the lowest seven
    bits are shown: `0:54`. A real-time signal would look the same, but hardly ends a job.
    """
    is_slurm = manager_of(dispatch.carrier) is Manager.SLURM
    is_own_end = row.state.end in (End.FAILED, End.CANCELLED)
    if not (is_slurm and is_own_end and status.code == 0 and 32 <= status.signal < 64):
        return None
    number = 4000 - 32 + status.signal
    why = _NODE_ERRORS.get(number)
    line = f"Slurm's daemon on the node could not start the job, error {number}"
    return f"{line}: {why}" if why else line


def _explain(end: End, label: str) -> tuple[str, str]:
    """Name an end that the workload manager of that name made, and explain it."""
    reason, explained = _REASONS[end]
    return reason, explained.format(label)


def _own_failure(dispatch: Dispatch, row: JobRow, status: WaitStatus) -> tuple[str, list[str]]:
    """Say how a job failed that Slurm did not end, but may have warned of its time limit."""
    reason, explained = split_reason(row.reason)
    lines = [_exit_line(status), *_hints(status)]
    if reason == "None":
        reason = "RaisedSignal" if status.signal else "NonZeroExitCode"
    elif reason not in ("NonZeroExitCode", "RaisedSignal"):
        lines.append(explained)
    if row.starts_at and row.ends_at and row.time_limit_s:
        left_s = row.time_limit_s - (row.ends_at - row.starts_at).total_seconds()
        is_warned = dispatch.warning_s is not None and left_s <= dispatch.warning_s + _EARLY_S
        if is_warned and _signal_of(status) in _BY_WARNING:
            reason = "TimeLimit"
            lines.insert(0, "The job was warned of its time limit, and ended by the warning")
        if is_warned or left_s < row.time_limit_s / 10:
            lines.append(
                f"Of its time limit of {row.time_limit_s} s it had {max(left_s, 0):.0f} s left"
            )
    return reason, lines


def _signal_of(status: WaitStatus) -> int | None:
    """Return the signal that a process was ended by, of which srun tells as a shell does."""
    return status.signal or (status.code - 128 if status.code > 128 else None)


def _preempted(dispatch: Dispatch, status: WaitStatus, at: datetime) -> Dispatch:
    """Tell a preemption that Slurm calls a failure, because the job left within its grace time."""
    reason, explained = _explain(End.PREEMPTED, manager_of(dispatch.carrier).label)
    lines = [explained, _exit_line(status), *_hints(status), *_announcement(dispatch)]
    return _failed(dispatch, reason, lines, at)


def _announcement(dispatch: Dispatch) -> list[str]:
    if dispatch.preempted_at is None:
        return []
    label = manager_of(dispatch.carrier).label
    return [f"{label} had announced its preemption at {dispatch.preempted_at.isoformat()}"]


def _completed(dispatch: Dispatch, at: datetime) -> Dispatch:
    return dispatch.moved(DispatchState.COMPLETED, at=at)


def _failed(dispatch: Dispatch, reason: str, lines: list[str], at: datetime) -> Dispatch:
    """End a dispatch in the form in which the master finds the reason."""
    if dispatch.terminate_requested_at is not None:
        return dispatch.moved(DispatchState.TERMINATED, at=at)
    said = "".join(f"  {line}\n" for line in lines)
    text = f"{_subject(dispatch)} is in a failed state due to reason '{reason}':\n{said}"
    return dispatch.moved(DispatchState.FAILED, at=at, event=_event(dispatch, text, at))


def _subject(dispatch: Dispatch) -> str:
    """Begin a text so that the master finds it: of PBS it wants to read the carrier, too."""
    manager = manager_of(dispatch.carrier)
    return "Slurm job" if manager is Manager.SLURM else f"{dispatch.carrier} - {manager.label} job"


def _event(dispatch: Dispatch, text: str, at: datetime) -> Event:
    return Event(level="ERROR", at=at, reporter=dispatch.carrier, message=text)


def _exit_line(status: WaitStatus) -> str:
    line = f"Job Exited with Exit Code {status.code}"
    if status.signal:
        line += f" in response to receiving Signal {status.signal}"
    return line


def _hints(status: WaitStatus) -> list[str]:
    """Name the signal that an exit code over 128 usually stands for, and what may be behind it."""
    if status.signal == signal.SIGKILL:
        return [_KILLED]
    if status.signal or not 128 < status.code < 128 + 65:
        return []
    try:
        name = signal.Signals(status.code - 128).name
    except ValueError:
        return []
    line = f"An exit code of {status.code} usually means that a process was ended by {name}"
    return [line, _KILLED] if name == "SIGKILL" else [line]
