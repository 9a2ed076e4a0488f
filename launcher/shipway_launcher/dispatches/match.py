"""Which Slurm jobs belong to which dispatch."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from shipway_launcher.batch.choice import comment_tag
from shipway_launcher.dispatches.outcome import with_row
from shipway_launcher.dispatches.record import Dispatch, DispatchId, Submission, now
from shipway_launcher.slurm.rows import JobRow
from shipway_launcher.slurm.states import Phase


def is_job_of(dispatch: Dispatch, row: JobRow) -> bool:
    """Say whether the job that has a dispatch's id is really its job.

    Ids come again after years. Sites may change names and comments, but not when a job was made.
    """
    if row.user != dispatch.owner:
        return False
    age = abs(row.submitted_at - dispatch.created_at) if row.submitted_at else timedelta.max
    return _is_named(dispatch, row) or age < timedelta(days=1)


def find_jobs(
    dispatches: Iterable[Dispatch], rows: Iterable[JobRow]
) -> Mapping[DispatchId, list[JobRow]]:
    """Find the jobs that carry the name of a dispatch, or its tag in their comment."""
    by_name = {dispatch.job_name: dispatch for dispatch in dispatches}
    by_tag = {comment_tag(dispatch.id): dispatch for dispatch in by_name.values()}
    found: defaultdict[DispatchId, list[JobRow]] = defaultdict(list)
    for row in rows:
        tags = (by_tag.get(word) for word in row.comment.split())
        dispatch = by_name.get(row.name) or next(filter(None, tags), None)
        if dispatch is not None and row.user == dispatch.owner:
            found[dispatch.id].append(row)
    return found


def _is_named(dispatch: Dispatch, row: JobRow) -> bool:
    return row.name == dispatch.job_name or comment_tag(dispatch.id) in row.comment.split()


def choose_job(rows: Sequence[JobRow]) -> JobRow | None:
    """Choose the job of a doubtful submission: one that lives, else one that has run.

    What sbatch was refused can leave a row, too: failed, for bad constraints.
    """
    real = [row for row in rows if row.reason.partition(",")[0] != "BadConstraints"]
    living = [row for row in real if row.state.phase is not Phase.ENDED]
    return min(living or real, key=_sequence_number, default=None)


def _sequence_number(row: JobRow) -> int:
    """Return by which number the job was submitted; PBS adds its server's name."""
    digits = re.match(r"\d+", row.id)
    return int(digits.group()) if digits else 0


def adopted(dispatch: Dispatch, row: JobRow) -> Dispatch:
    """Take a job that was found as the one of this dispatch."""
    known = replace(dispatch, job_id=row.id, submission=Submission.SUBMITTED, unknown_since=None)
    return with_row(known, row, now())
