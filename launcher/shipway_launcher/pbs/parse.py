"""Read what PBS's commands print as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from shipway_launcher.batch.choice import comment_tag
from shipway_launcher.pbs.states import read_exit, read_reason, read_state
from shipway_launcher.slurm.rows import JobRow, SlurmJobId

DISPATCH_VARIABLE = "SHIPWAY_DISPATCH"
"""In the environment of each job of ours; it says whose job it is."""

_JOB_ID = re.compile(r"\d+(?:\[\d*\])?\.[A-Za-z0-9][A-Za-z0-9.-]*")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s",:{}\[\]]+', re.DOTALL)
_SCALAR = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null")


def parse_submitted(stdout: str) -> SlurmJobId | None:
    """Find the id that qsub printed, alone on its line; None if there is none, or more than one."""
    found = {line.strip() for line in stdout.splitlines() if _JOB_ID.fullmatch(line.strip())}
    return SlurmJobId(found.pop()) if len(found) == 1 else None


def load(stdout: str) -> dict[str, Any]:
    """Read an answer; notes before it and values without their quotes do no harm.

    Releases before 2020 print names such as `inf` or `1e5x` bare.

    Raises:
        ValueError: It is no such answer.
    """
    start = stdout.find("{")
    text = stdout[start:] if start >= 0 else ""
    for attempt in (text, _TOKEN.sub(_quote_bare, text)):
        try:
            loaded, _ = json.JSONDecoder(strict=False).raw_decode(attempt)
        except (ValueError, RecursionError):
            continue
        if isinstance(loaded, dict):
            return cast("dict[str, Any]", loaded)
    raise ValueError(f"no JSON object: {stdout[:200]!r}")


def parse_jobs(stdout: str) -> list[JobRow]:
    """Read the jobs; one that is not as it should be costs only itself.

    Raises:
        ValueError: The answer as a whole cannot be read.
    """
    return [
        _read_job(job_id, attributes)
        for job_id, attributes in objects(load(stdout), "Jobs").items()
    ]


def objects(loaded: Mapping[str, Any], name: str) -> dict[str, dict[str, Any]]:
    """Return those values of an object within another that are objects themselves."""
    return {
        key: cast("dict[str, Any]", value)
        for key, value in members(loaded, name).items()
        if isinstance(value, dict)
    }


def members(loaded: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an object within another, empty where there is none."""
    value = loaded.get(name)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def text_of(attributes: Mapping[str, Any], name: str) -> str:
    """Return an attribute as text; names that look like numbers come as such."""
    value: object = attributes.get(name)
    return str(value) if isinstance(value, str | int | float) else ""


def number_of(attributes: Mapping[str, Any], name: str) -> int | None:
    """Return a whole number, also from text; None if it is none."""
    text = text_of(attributes, name)
    return int(text) if re.fullmatch(r"-?\d{1,18}", text) else None


def _read_job(job_id: str, attributes: Mapping[str, Any]) -> JobRow:
    letter = text_of(attributes, "job_state")
    exit_status = number_of(attributes, "Exit_status")
    resources = members(attributes, "Resource_List")
    return JobRow(
        id=SlurmJobId(job_id),
        shown_id=job_id,
        state=read_state(
            letter,
            substate=number_of(attributes, "substate"),
            exit_status=exit_status,
            comment=text_of(attributes, "comment"),
        ),
        reason=read_reason(letter, text_of(attributes, "comment")),
        name=text_of(attributes, "Job_Name"),
        user=text_of(attributes, "Job_Owner").partition("@")[0],
        partition=text_of(attributes, "queue"),
        comment=_read_tag(attributes),
        nodes=_read_hosts(text_of(attributes, "exec_host")),
        submitted_at=_read_time(text_of(attributes, "ctime")),
        preempted_at=None,
        cpus=number_of(resources, "ncpus"),
        gpus=number_of(resources, "ngpus") or 0,
        restarts=0,  # no job of ours can be run again, and run_count counts failed starts, too
        exit=read_exit(exit_status),
        starts_at=_read_time(text_of(attributes, "stime"))
        or _read_time(text_of(members(attributes, "estimated"), "start_time")),
        time_limit_s=_read_seconds(text_of(resources, "walltime")),
    )


def _read_tag(attributes: Mapping[str, Any]) -> str:
    """Find the word by which the launcher knows its jobs, in the variables that they got."""
    dispatch_id = text_of(members(attributes, "Variable_List"), DISPATCH_VARIABLE)
    return comment_tag(dispatch_id) if dispatch_id else ""


def _read_hosts(text: str) -> str:
    """Read `n1/0*4+n2/0*4`."""
    return ",".join(dict.fromkeys(part.partition("/")[0] for part in text.split("+") if part))


def _read_time(text: str) -> datetime | None:
    """Read `Fri Apr 10 09:56:22 2026`, which is UTC because we ask for that."""
    try:
        return datetime.strptime(text, "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
    except ValueError:
        return None


def _read_seconds(text: str) -> int | None:
    match = re.fullmatch(r"(?:(\d+):)?(?:(\d+):)?(\d+)", text)
    if match is None:
        return None
    hours, minutes, seconds = match.groups()
    if hours is not None and minutes is None:  # of two numbers the first are minutes
        hours, minutes = None, hours
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds)


def _quote_bare(match: re.Match[str]) -> str:
    token = match.group()
    if token.startswith('"') or _SCALAR.fullmatch(token):
        return token
    return json.dumps(token)
