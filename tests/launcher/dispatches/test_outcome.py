"""Which evidence makes which state, and what the master's user is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shipway_launcher.dispatches.match import adopted, choose_job, find_jobs, is_job_of
from shipway_launcher.dispatches.outcome import (
    LeftExit,
    parse_exit_file,
    with_exit_file,
    with_row,
    without_trace,
)
from shipway_launcher.dispatches.record import (
    Dispatch,
    DispatchId,
    Event,
    Submission,
    parse_record,
    render_record,
)
from shipway_launcher.dispatches.state import DispatchState, IllegalTransition, transition
from shipway_launcher.slurm.parse import parse_exit
from shipway_launcher.slurm.rows import JobRow, SlurmJobId
from shipway_launcher.slurm.states import parse_job_state

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CARRIER = "com.cray.analytics.capsules.carriers.hpc.slurm.PodmanOverSlurm"


def make_dispatch(**changes: Any) -> Dispatch:
    found: dict[str, Any] = {
        "id": DispatchId("9d0c.1"),
        "owner": "alice",
        "name": "det",
        "payload": "ai_cmd",
        "carrier": CARRIER,
        "job_name": "det-ai_cmd-9d0c.1",
        "digest": "0",
        "created_at": AT,
        "state": DispatchState.RUNNING,
        "submission": Submission.SUBMITTED,
        "updated_at": AT,
        "job_id": SlurmJobId("7"),
    }
    return Dispatch(**{**found, **changes})


def make_row(state: str = "RUNNING", exit_code: str = "0:0", **changes: Any) -> JobRow:
    row: dict[str, Any] = {
        "id": SlurmJobId("7"),
        "shown_id": "7",
        "state": parse_job_state(state),
        "reason": "None",
        "name": "det-ai_cmd-9d0c.1",
        "user": "alice",
        "partition": "gpu",
        "comment": "shipway:9d0c.1",
        "nodes": "n1",
        "submitted_at": AT,
        "preempted_at": None,
        "cpus": 1,
        "gpus": 0,
        "restarts": 0,
        "exit": parse_exit(exit_code),
    }
    return JobRow(**{**row, **changes})


@pytest.mark.parametrize(
    ("before", "slurm", "after"),
    [
        ("PENDING", "CONFIGURING", "PENDING"),
        ("PENDING", "RUNNING", "RUNNING"),
        ("RUNNING", "SUSPENDED", "RUNNING"),
        ("RUNNING", "COMPLETING", "RUNNING"),
        ("PENDING", "COMPLETING", "PENDING"),
        ("RUNNING", "PENDING", "PENDING"),
        ("RUNNING", "REQUEUE_HOLD", "PENDING"),
        ("RUNNING", "FROBNICATING", "RUNNING"),
        ("RUNNING", "REVOKED", "RUNNING"),
        ("TERMINATING", "RUNNING", "TERMINATING"),
        ("TERMINATING", "PENDING", "TERMINATING"),
        ("UNKNOWN", "RUNNING", "RUNNING"),
    ],
)
def test_a_living_job(before: str, slurm: str, after: str) -> None:
    dispatch = make_dispatch(state=DispatchState(before))
    assert with_row(dispatch, make_row(slurm), AT).state == after


@pytest.mark.parametrize(
    ("slurm", "exit_code", "reason", "after", "told"),
    [
        ("COMPLETED", "0:0", "None", "COMPLETED", None),
        ("FAILED", "1:0", "NonZeroExitCode", "FAILED", "'NonZeroExitCode':\n  Job Exited with Exit Code 1\n"),
        ("FAILED", "44:0", "NonZeroExitCode", "FAILED", "Exit Code 44\n"),
        ("FAILED", "0:15", "RaisedSignal:15(Terminated)", "FAILED", "'RaisedSignal':\n  Job Exited with Exit Code 0 in response to receiving Signal 15\n"),
        ("FAILED", "137:0", "NonZeroExitCode", "FAILED", "Exit Code 137\n  An exit code of 137 usually means that a process was ended by SIGKILL\n"),
        ("FAILED", "0:9", "RaisedSignal:9(Killed)", "FAILED", "often means that the job used more memory"),
        ("FAILED", "0:53", "JobLaunchFailure", "FAILED", "'JobLaunchFailure':\n  Slurm's daemon on the node could not start the job, error 4021: the job's folder"),
        ("CANCELLED", "0:54", "None", "FAILED", "could not start the job, error 4022: its prolog failed\n"),
        ("FAILED", "0:61", "NonZeroExitCode", "FAILED", "could not start the job, error 4029\n"),
        ("TIMEOUT", "0:54", "TimeLimit", "FAILED", "'TimeLimit'"),
        ("OUT_OF_MEMORY", "0:125", "OutOfMemory", "FAILED", "'OutOfMemory':\n  The job used more memory than it was given\n"),
        ("TIMEOUT", "0:0", "TimeLimit", "FAILED", "'TimeLimit':\n  The job reached its time limit\n"),
        ("TIMEOUT", "0:1", "TimeLimit", "FAILED", "'TimeLimit'"),
        ("CANCELLED by 1000", "0:0", "None", "FAILED", "'Cancelled':\n  The job was cancelled, but not by way of the launcher\n"),
        ("CANCELLED+", "0:9", "None", "FAILED", "Signal 9"),
        ("NODE_FAIL", "1:0", "NodeDown", "FAILED", "'NodeFail':\n  A node of the job failed\n"),
        ("PREEMPTED", "0:0", "None", "FAILED", "'Preempted'"),
        ("PREEMPTED", "0:9", "None", "FAILED", "'Preempted'"),
        ("BOOT_FAIL", "0:0", "None", "FAILED", "'BootFail'"),
        ("DEADLINE", "0:0", "None", "FAILED", "'DeadLine'"),
    ],
)  # fmt: skip
def test_an_ended_job(
    slurm: str, exit_code: str, reason: str, after: str, told: str | None
) -> None:
    ended = with_row(make_dispatch(), make_row(slurm, exit_code, reason=reason), AT)
    assert ended.state == after
    if told is None:
        assert ended.events == ()
        return
    (event,) = ended.events
    assert event.level == "ERROR"
    assert event.message.startswith("Slurm job is in a failed state due to reason '")
    assert told in event.message
    assert CARRIER not in event.message, "else the master would show it twice"


@pytest.mark.parametrize("lasted_s", [0, 2, 59])
def test_a_job_that_ends_soon_after_its_start_may_have_met_a_node_that_starts_nothing(
    lasted_s: int,
) -> None:
    cancelled = make_row("CANCELLED", starts_at=AT, ends_at=AT + timedelta(seconds=lasted_s))
    (event,) = with_row(make_dispatch(), cancelled, AT).events
    assert "The job was cancelled, but not by way of the launcher" in event.message
    assert "a prolog that fails for example" in event.message


@pytest.mark.parametrize(
    "row",
    [
        make_row("CANCELLED", starts_at=AT, ends_at=AT, nodes=""),
        make_row("CANCELLED", "0:15", starts_at=AT, ends_at=AT),
        make_row("CANCELLED", starts_at=AT, ends_at=AT + timedelta(minutes=1)),
        make_row("CANCELLED", starts_at=None, ends_at=AT),
    ],
    ids=["waited", "ended by a signal", "ran", "was never given nodes"],
)
def test_a_job_that_was_only_cancelled_is_not_told_of_prologs(row: JobRow) -> None:
    (event,) = with_row(make_dispatch(), row, AT).events
    assert "prolog" not in event.message


@pytest.mark.parametrize("slurm", ["CANCELLED", "FAILED", "TIMEOUT", "PREEMPTED"])
def test_what_was_to_end_is_terminated(slurm: str) -> None:
    asked = make_dispatch(state=DispatchState.TERMINATING, terminate_requested_at=AT)
    ended = with_row(asked, make_row(slurm, "0:15"), AT)
    assert ended.state is DispatchState.TERMINATED
    assert ended.events == ()


def test_what_ended_well_before_it_was_cancelled_is_completed() -> None:
    asked = make_dispatch(state=DispatchState.TERMINATING, terminate_requested_at=AT)
    assert with_row(asked, make_row("COMPLETED"), AT).state is DispatchState.COMPLETED


def test_a_preemption_that_slurm_calls_a_failure_is_told() -> None:
    row = make_row("FAILED", "77:0", reason="NonZeroExitCode", preempted_at=AT)
    *_, event = with_row(make_dispatch(), row, AT).events
    assert event.message.startswith("Slurm job is in a failed state due to reason 'Preempted'")
    assert "Exit Code 77" in event.message
    assert "Slurm had announced its preemption at 2026-01-02T03:04:05+00:00" in event.message


def test_a_preemption_is_remembered_where_slurm_no_longer_tells_it() -> None:
    """Neither accounting nor the file that a script leaves knows of the announcement."""
    going = with_row(make_dispatch(), make_row("RUNNING", preempted_at=AT), AT)
    assert (going.state, going.preempted_at) == (DispatchState.RUNNING, AT)
    assert with_row(going, make_row("RUNNING", preempted_at=AT), AT) == going, "told once"
    for ended in (
        with_row(going, make_row("FAILED", "143:0"), AT),
        with_exit_file(going, LeftExit(code=77, job_id=SlurmJobId("7")), AT),
    ):
        assert "due to reason 'Preempted'" in ended.events[-1].message
    assert with_row(going, make_row("COMPLETED"), AT).state is DispatchState.COMPLETED


def test_a_preemption_does_not_explain_what_slurm_explains_otherwise() -> None:
    going = with_row(make_dispatch(), make_row("RUNNING", preempted_at=AT), AT)
    for state, reason in (("OUT_OF_MEMORY", "OutOfMemory"), ("NODE_FAIL", "NodeFail")):
        message = with_row(going, make_row(state, "0:9"), AT).events[-1].message
        assert f"due to reason '{reason}'" in message
        assert "had announced its preemption" in message


def test_a_job_that_was_put_back_and_cancelled_says_so() -> None:
    again = make_row("CANCELLED by 0", "0:0", restarts=1)
    assert "due to reason 'Requeued'" in with_row(make_dispatch(), again, AT).events[-1].message
    preempted = with_row(make_dispatch(), make_row("RUNNING", preempted_at=AT), AT)
    message = with_row(preempted, again, AT).events[-1].message
    assert "due to reason 'Preempted'" in message


def test_who_leaves_shortly_before_the_time_limit_is_told_how_shortly() -> None:
    def message(minutes: int) -> str:
        row = make_row(
            "FAILED",
            "77:0",
            starts_at=AT,
            ends_at=AT + timedelta(minutes=minutes),
            time_limit_s=3600,
        )
        return with_row(make_dispatch(), row, AT).events[-1].message

    assert "Of its time limit of 3600 s it had 180 s left" in message(57)
    assert "time limit" not in message(30)
    assert "'Preempted'" not in message(57)


@pytest.mark.parametrize(
    ("exit_code", "warning_s", "minutes", "reason"),
    [
        ("143:0", 600, 55, "TimeLimit"),
        ("138:0", 600, 50, "TimeLimit"),
        ("0:15", 600, 49, "TimeLimit"),
        ("143:0", 600, 48, "NonZeroExitCode"),
        ("77:0", 600, 55, "NonZeroExitCode"),
        ("137:0", 600, 55, "NonZeroExitCode"),
        ("143:0", None, 59, "NonZeroExitCode"),
    ],
    ids=[
        *["by TERM", "by USR1", "as a signal", "before the warning", "by its own choice", "killed"],
        "not warned",
    ],
)
def test_who_is_ended_by_the_warning_was_ended_by_the_time_limit(
    exit_code: str, warning_s: int | None, minutes: int, reason: str
) -> None:
    row = make_row(
        "FAILED",
        exit_code,
        starts_at=AT,
        ends_at=AT + timedelta(minutes=minutes),
        time_limit_s=3600,
    )
    message = with_row(make_dispatch(warning_s=warning_s), row, AT).events[-1].message
    assert f"due to reason '{reason}'" in message
    assert ("was warned of its time limit" in message) == (reason == "TimeLimit")


def test_who_leaves_after_a_warning_is_told_how_much_was_left() -> None:
    row = make_row(
        "FAILED", "77:0", starts_at=AT, ends_at=AT + timedelta(seconds=1200), time_limit_s=2400
    )
    message = with_row(make_dispatch(warning_s=1200), row, AT).events[-1].message
    assert "Of its time limit of 2400 s it had 1200 s left" in message


def test_each_reason_for_waiting_is_told_once() -> None:
    dispatch = make_dispatch(state=DispatchState.PENDING)
    for reason in ("None", "Priority", "Resources", "Priority", "BadConstraints", "Resources"):
        dispatch = with_row(dispatch, make_row("PENDING", reason=reason), AT)
    assert [(event.level, event.message.partition(" for")[0]) for event in dispatch.events] == [
        ("INFO", "The job is waiting"),
        ("INFO", "The job is waiting"),
        (
            "INFO",
            "The job cannot start as it is. No node can ever fulfil what the job asks",
        ),
    ]


def test_the_exit_file_counts_where_slurm_has_forgotten() -> None:
    def after(code: int, **changes: Any) -> DispatchState:
        left = LeftExit(code=code, job_id=SlurmJobId("7"))
        return with_exit_file(make_dispatch(**changes), left, AT).state

    assert after(0) is DispatchState.COMPLETED
    assert after(3) is DispatchState.FAILED
    assert after(3, terminate_requested_at=AT) is DispatchState.TERMINATED


@pytest.mark.parametrize("data", [b"", b"3", b"3 7", b"3 x\n", b"x 7\n", b"-1 7\n", b"3 7\n\n"])
def test_an_exit_file_that_is_not_whole_says_nothing(data: bytes) -> None:
    assert parse_exit_file(data) is None
    assert parse_exit_file(b"3 7\n") == LeftExit(code=3, job_id=SlurmJobId("7"))


def test_a_job_without_a_trace_is_missing_only_after_a_while() -> None:
    first = without_trace(make_dispatch(), AT, missing_after_s=30)
    assert first.state is DispatchState.RUNNING
    soon = without_trace(first, AT + timedelta(seconds=29), missing_after_s=30)
    assert soon.state is DispatchState.RUNNING
    later = without_trace(soon, AT + timedelta(seconds=30), missing_after_s=30)
    assert later.state is DispatchState.MISSING
    assert later.events[-1].message.startswith("Slurm job is in a missing state")
    seen = with_row(soon, make_row(), AT)
    assert seen.unknown_since is None, "the clock starts anew"


def test_a_doubtful_submission_without_a_job_has_failed() -> None:
    doubtful = make_dispatch(
        state=DispatchState.PENDING, submission=Submission.DOUBTFUL, job_id=None, unknown_since=AT
    )
    later = without_trace(doubtful, AT + timedelta(seconds=30), missing_after_s=30)
    assert (later.state, later.submission) == (DispatchState.FAILED, Submission.REFUSED)
    asked = replace(doubtful, state=DispatchState.TERMINATING, terminate_requested_at=AT)
    later = without_trace(asked, AT + timedelta(seconds=30), missing_after_s=30)
    assert later.state is DispatchState.TERMINATED


@pytest.mark.parametrize("final", ["MISSING", "TERMINATED", "COMPLETED", "FAILED"])
def test_nothing_comes_after_the_end(final: str) -> None:
    for state in DispatchState:
        if state != final:
            with pytest.raises(IllegalTransition):
                transition(DispatchState(final), state)


def test_a_record_is_read_as_it_was_written() -> None:
    event = Event(level="ERROR", at=AT, reporter="x", message="a\nb 'c' día")
    dispatch = make_dispatch(events=(event,), terminate_requested_at=AT, unknown_since=AT)
    assert parse_record(render_record(dispatch)) == dispatch
    assert parse_record(render_record(make_dispatch(job_id=None))) == make_dispatch(job_id=None)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"version": 2}', b"\xff"])
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (whatever the text)
        parse_record(data)


def test_a_job_is_known_by_its_name_or_by_its_comment() -> None:
    dispatch = make_dispatch()
    rows = [
        make_row(),
        make_row(id="8", name="renamed by the site"),
        make_row(id="9", name="x", comment="shipway:9d0c.10 shipway:9d0c"),
        make_row(id="10", user="mallory"),
    ]
    assert [row.id for row in find_jobs([dispatch], rows)[dispatch.id]] == ["7", "8"]


def test_an_id_that_has_come_again_is_not_our_job() -> None:
    dispatch = make_dispatch()
    other = {"name": "wrap", "comment": ""}
    assert is_job_of(dispatch, make_row(**other)), "a site may rename jobs"
    years_later = AT + timedelta(days=900)
    assert not is_job_of(dispatch, make_row(**other, submitted_at=years_later))
    assert not is_job_of(dispatch, make_row(user="bob"))


def test_only_a_job_that_lives_or_has_run_is_adopted() -> None:
    refused = make_row("FAILED", "1:0", id="6", reason="BadConstraints")
    ended = make_row("COMPLETED", id="7")
    living = make_row("PENDING", id="8")
    assert choose_job([refused]) is None
    assert choose_job([refused, ended]) == ended
    assert choose_job([ended, living]) == living
    doubtful = make_dispatch(job_id=None, submission=Submission.DOUBTFUL)
    found = adopted(doubtful, ended)
    assert (found.job_id, found.state) == ("7", DispatchState.COMPLETED)
