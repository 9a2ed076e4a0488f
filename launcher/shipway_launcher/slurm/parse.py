"""Read what Slurm's commands print. Only a whole match counts; the rest is noise or unknown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from shipway_launcher.commandline import Failure
from shipway_launcher.slurm.commands import Columns
from shipway_launcher.slurm.gres import parse_gpus
from shipway_launcher.slurm.rows import JobRow, SlurmJobId, WaitStatus
from shipway_launcher.slurm.states import parse_job_state

_JOB_ID = re.compile(r"\d+")
_SUBMITTED = re.compile(
    r"^(?:(\d+)(?:;[^\s;]+)?|Submitted batch job (\d+)(?: on cluster \S+)?)[ \t\r]*$", re.MULTILINE
)
_ACCOUNTED = re.compile(r"(\d+)\|([^|]+)\|(\d+:\d+)\|([^|]*)\|([^|]*)")
_DURATION = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")


_UNREACHED = re.compile(
    r"Unable to contact slurm controller \(connect failure\)|Connection refused"
    r"|establish a configuration source|fetch_config|No route to host|Network is unreachable",
    re.IGNORECASE,
)
_NO_ANSWER = re.compile(
    r"Socket timed out|Unable to contact slurm controller|Zero Bytes were transmitted"
    r"|Transport endpoint is not connected|Connection (reset|timed out)|Unexpected message"
    r"|(send|receive|shutdown) failure|Insane message length|in standby mode|Broken pipe"
    r"|Communication connection failure|temporarily unavailable|I/O error",
    re.IGNORECASE,
)


def classify_failure(stderr: str) -> Failure:
    """Tell a refusal from a controller that did not answer, by what the command said."""
    if _UNREACHED.search(stderr):
        return Failure.UNREACHED
    return Failure.NO_ANSWER if _NO_ANSWER.search(stderr) else Failure.REFUSED


def parse_submitted(stdout: str) -> SlurmJobId | None:
    """Find the id that sbatch printed, in whatever else a site prints; None if it is not clear."""
    found = {first or second for first, second in _SUBMITTED.findall(stdout)}
    return SlurmJobId(found.pop()) if len(found) == 1 else None


def parse_records(columns: Columns, stdout: str) -> list[dict[str, str]]:
    """Split what squeue or sinfo printed into records; a column they left out is missing there.

    Raises:
        ValueError: It breaks off, or something is there and it is no record.
    """
    *texts, rest = stdout.split(columns.end)
    if columns.nonce in rest or (rest.strip() and not texts):
        raise ValueError(f"no whole record in {rest[:200]!r}")
    labels = [(field, columns.label(field)) for field in columns.fields[:-1]]
    records: list[dict[str, str]] = []
    for text in texts:
        record: dict[str, str] = {}
        start = 0
        for field, label in labels:
            end = text.find(label, start)
            if end >= 0:
                record[field] = text[start:end]
                start = end + len(label)
        record[columns.fields[-1]] = text[start:]
        # What comes before the first record (banners, `CLUSTER: beta`) is not part of its id.
        first = columns.fields[0]
        record[first] = record.get(first, "").rpartition("\n")[2].strip()
        records.append(record)
    return records


def parse_jobs(columns: Columns, stdout: str) -> list[JobRow]:
    """Read the answer to `commands.list_jobs`; a record without a proper id is left out."""
    return [
        _job_row(record)
        for record in parse_records(columns, stdout)
        if _JOB_ID.fullmatch(record["JobID"])
    ]


def _job_row(record: Mapping[str, str]) -> JobRow:
    def text(field: str) -> str:
        value = record.get(field, "")
        return "" if value in ("(null)", "N/A") else value

    return JobRow(
        id=SlurmJobId(record["JobID"]),
        shown_id=text("JobArrayID").strip() or record["JobID"],
        state=parse_job_state(text("State")),
        reason=text("Reason"),
        name=text("Name"),
        user=text("UserName"),
        partition=text("Partition"),
        comment=text("Comment"),
        nodes=text("NodeList"),
        submitted_at=parse_time(text("SubmitTime")),
        preempted_at=parse_time(text("PreemptTime")),
        cpus=parse_number(text("NumCPUs")),
        gpus=requested_gpus(record),
        restarts=parse_number(text("RestartCnt")) or 0,
        exit=parse_exit(text("exit_code")),
        starts_at=parse_time(text("StartTime")),
        ends_at=parse_time(text("EndTime")),
        time_limit_s=parse_duration_s(text("TimeLimit")),
    )


def requested_gpus(record: Mapping[str, str]) -> int | None:
    """Add up a job's GPUs from whichever text has them; which one depends on how it asked."""
    is_unreadable = False
    for field, factor in (
        *(("tres-alloc", "1"), ("tres-per-job", "1")),
        *(
            ("tres-per-node", record.get("NumNodes", "")),
            ("tres-per-task", record.get("NumTasks", "")),
        ),
    ):
        gpus = parse_gpus(record.get(field, ""))
        is_unreadable = is_unreadable or gpus is None
        if gpus is not None and gpus.total:
            return gpus.total * (parse_number(factor) or 1)
    return None if is_unreadable else 0


def parse_exit(text: str) -> WaitStatus | None:
    """Read an exit code: `4:0` (code and signal) or the raw wait status `1024`."""
    if match := re.fullmatch(r"(\d+):(\d+)", text.strip()):
        return WaitStatus(code=int(match.group(1)), signal=int(match.group(2)))
    status = parse_number(text)
    return None if status is None else WaitStatus(code=status >> 8 & 0xFF, signal=status & 0x7F)


def parse_time(text: str) -> datetime | None:
    """Read seconds since 1970, or local time as Slurm prints it by default."""
    text = text.strip()
    if not text:
        return None
    if text.isdecimal():
        return datetime.fromtimestamp(int(text), UTC) if 0 < int(text) < 1 << 34 else None
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").astimezone()
    except ValueError:
        return None


def parse_duration_s(text: str) -> int | None:
    """Read `90:00`, `1:30:00`, `1-00:00:00`; None for no limit and for any other word."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def parse_accounting(stdout: str) -> dict[SlurmJobId, JobRow]:
    """Read the answer to `commands.account`."""
    rows: dict[SlurmJobId, JobRow] = {}
    for line in stdout.splitlines():
        match = _ACCOUNTED.fullmatch(line)
        if match is None:
            continue
        job_id, word, code, submitted, user = match.groups()
        rows[SlurmJobId(job_id)] = JobRow(
            id=SlurmJobId(job_id),
            shown_id=job_id,
            state=parse_job_state(word),
            reason="",
            name="",
            user=user,
            partition="",
            comment="",
            nodes="",
            submitted_at=parse_time(submitted),
            preempted_at=None,
            cpus=None,
            gpus=None,
            restarts=0,
            exit=parse_exit(code),
        )
    return rows


def parse_number(text: str) -> int | None:
    """Read a whole number; None for any of Slurm's special words."""
    text = text.strip()
    return int(text) if text.isdecimal() else None
