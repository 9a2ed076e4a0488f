"""Read the jobs that `squeue --json` prints, in the shapes of Slurm 20.11 to 26.05.

Numbers that can be unset are plain ones up to 22.05 and `{"set", "infinite", "number"}` later;
states are one word, later a list of them; an exit code is a raw wait status, later an object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from shipway_launcher.slurm.parse import requested_gpus
from shipway_launcher.slurm.rows import JobRow, SlurmJobId, WaitStatus
from shipway_launcher.slurm.states import JobState, Phase, parse_job_state

_GPU_TEXTS = {
    "tres-alloc": "tres_alloc_str",
    "tres-per-job": "tres_per_job",
    "tres-per-node": "tres_per_node",
    "tres-per-task": "tres_per_task",
}
_LONGEST_TIME = 1 << 32
"""What is later stands for "never"; 22.05 prints the year 2163 for a job without an end."""


def parse_jobs_json(stdout: str) -> list[JobRow]:
    """Read all jobs; what a site prints before the answer is passed over.

    Raises:
        ValueError: There is no answer, or Slurm says in it that it is not whole.
    """
    answer = _load(stdout)
    jobs = answer.get("jobs")
    errors = answer.get("errors")
    if errors or not isinstance(jobs, list):
        raise ValueError(f"no list of jobs, errors {json.dumps(errors)[:200]}")
    found = cast("list[object]", jobs)
    rows = [_job_row(cast("Mapping[str, Any]", job)) for job in found if isinstance(job, dict)]
    return [row for row in rows if row is not None]


def _load(stdout: str) -> Mapping[str, Any]:
    """Find the answer among other text: a line that begins with a brace and leads to an object."""
    decoder = json.JSONDecoder(strict=False)
    start = 0 if stdout.startswith("{") else stdout.find("\n{") + 1
    while stdout.startswith("{", start):
        try:
            answer: object = decoder.raw_decode(stdout, start)[0]
        except ValueError:
            answer = None
        if isinstance(answer, dict) and "jobs" in answer:
            return cast("Mapping[str, Any]", answer)
        start = stdout.find("\n{", start) + 1
        if not start:
            break
    raise ValueError(f"no JSON in {stdout[:200]!r}")


def _job_row(job: Mapping[str, Any]) -> JobRow | None:
    job_id = _number(job.get("job_id"))
    if not job_id:
        return None
    state = _state(job.get("job_state"))
    record = {name: _text(job.get(key)) for name, key in _GPU_TEXTS.items()}
    record["NumNodes"] = str(_number(job.get("node_count")) or "")
    record["NumTasks"] = str(_number(job.get("tasks")) or "")
    limit_min = _number(job.get("time_limit"))
    return JobRow(
        id=SlurmJobId(str(job_id)),
        shown_id=_shown_id(job, job_id, is_waiting=state.phase is Phase.WAITING),
        state=state,
        reason=_text(job.get("state_reason")),
        name=_text(job.get("name")),
        user=_text(job.get("user_name")),
        partition=_text(job.get("partition")),
        comment=_comment(job.get("comment")),
        nodes=_text(job.get("nodes")),
        submitted_at=_time(job.get("submit_time")),
        preempted_at=_time(job.get("preempt_time")),
        cpus=_number(job.get("cpus")),
        gpus=requested_gpus(record),
        restarts=_number(job.get("restart_cnt")) or 0,
        exit=_exit(job.get("exit_code")),
        starts_at=_time(job.get("start_time")),
        # Without a limit, a job that goes on is said to end in a year.
        ends_at=_time(job.get("end_time")) if limit_min or state.phase is Phase.ENDED else None,
        time_limit_s=limit_min * 60 if limit_min else None,
    )


def _shown_id(job: Mapping[str, Any], job_id: int, *, is_waiting: bool) -> str:
    """Write the id as people see it: of a part of an array, `12_3`, or of a group, `12+1`."""
    array, group = _number(job.get("array_job_id")), _number(job.get("het_job_id"))
    if array:
        parts = _text(job.get("array_task_string"))
        if parts and is_waiting:
            return f"{array}_[{parts}]"
        part = _number(job.get("array_task_id"))
        return str(job_id) if part is None else f"{array}_{part}"
    if group:
        return f"{group}+{_number(job.get('het_job_offset')) or 0}"
    return str(job_id)


def _number(value: object) -> int | None:
    """Read a number of either form; None when it is not set, not finite or no number."""
    if isinstance(value, dict):
        of = cast("Mapping[str, object]", value)
        if of.get("set") is not True or of.get("infinite") is True:
            return None
        value = of.get("number")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value)


def _time(value: object) -> datetime | None:
    seconds = _number(value)
    if seconds is None or not 0 < seconds < _LONGEST_TIME:
        return None
    return datetime.fromtimestamp(seconds, UTC)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _comment(value: object) -> str:
    """Read a comment; accounting has three of them, of which one is the job's own."""
    if isinstance(value, dict):
        return _text(cast("Mapping[str, object]", value).get("job"))
    return _text(value)


def _state(value: object) -> JobState:
    words = cast("Sequence[object]", value) if isinstance(value, list) else [value]
    return parse_job_state(",".join(_text(word) for word in words))


def _exit(value: object) -> WaitStatus | None:
    if not isinstance(value, dict):
        status = _number(value)
        return None if status is None else WaitStatus(code=status >> 8 & 0xFF, signal=status & 0x7F)
    of = cast("Mapping[str, Any]", value)
    code, sign = _number(of.get("return_code")), of.get("signal")
    number = _number(cast("Mapping[str, Any]", sign).get("id")) if isinstance(sign, dict) else None
    if number is None and isinstance(sign, dict):
        number = _number(cast("Mapping[str, Any]", sign).get("signal_id"))  # so up to 23.11
    if code is None and number is None:
        return None
    return WaitStatus(code=code or 0, signal=number or 0)
