"""The answer to a question for queues: the log `slurm-queue-info`."""

from __future__ import annotations

from collections.abc import Sequence

from shipway_launcher.carriers.yamltext import quote
from shipway_launcher.slurm.reasons import explain_wait
from shipway_launcher.slurm.rows import JobRow
from shipway_launcher.slurm.states import Phase

LOG_NAME = "slurm-queue-info"


def render_queues(rows: Sequence[JobRow]) -> str:
    """Write all jobs that have not ended, with the nine keys that the master expects of each.

    A job is called PENDING or RUNNING only while that is so: for any other word, and for a job
    that is not in the list, the master asks for the job's own state.
    """
    live = [row for row in rows if row.state.phase is not Phase.ENDED]
    if not live:
        return "{}\n"
    return "".join(
        f"{quote(row.shown_id)}:\n"
        + "".join(f"  {key}: {quote(value)}\n" for key, value in _fields(row).items())
        for row in live
    )


def _fields(row: JobRow) -> dict[str, str]:
    wait = explain_wait(row)
    return {
        "state": row.state.word or "UNKNOWN",
        "name": row.name or row.shown_id,
        "partition": row.partition,
        "submitTime": row.submitted_at.isoformat() if row.submitted_at else "",
        "userName": row.user,
        "gpuSlots": str(row.gpus or 0),
        "cpuSlots": str(row.cpus or 0),
        "reasonCode": wait.word,
        "reasonDesc": wait.line,
    }
