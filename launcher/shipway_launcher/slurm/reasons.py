"""Why a job waits or ended, in plain words."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shipway_launcher.slurm.rows import JobRow
from shipway_launcher.slurm.states import Phase

_NEVER = "it can never start like this"

_WORDS = {
    "None": "",
    "Priority": "The job is waiting for jobs of higher priority",
    "Resources": "The job is waiting for resources to become available",
    "Dependency": "The job is waiting for another job that it depends on",
    "DependencyNeverSatisfied": "The job depends on another job that did not end as it had to;"
    f" {_NEVER}",
    "BeginTime": "The job is waiting for its earliest start time",
    "JobHeldUser": "The job is held by its user; `scontrol release` lets it go",
    "JobHeld": "The job is held",
    "JobHeldAdmin": "The job is held by an administrator",
    "JobHoldMaxRequeue": "The job was put back into the queue too often, and is held",
    "job_requeued_in_held_state": "The job was put back into the queue, and is held",
    "launch_failed_requeued_held": "The job could not be started on its nodes, and is held",
    "Licenses": "The job is waiting for a licence",
    "Reservation": "The job is waiting for its reservation to begin",
    "ReservationDeleted": f"The job's reservation was deleted; {_NEVER}",
    "RequiresReservation": f"The partition takes jobs with a reservation only; {_NEVER}",
    "ReqNodeNotAvail": "Nodes that the job needs are down, drained or reserved",
    "NodeDown": "A node that the job needs is down",
    "Nodes": "Nodes that the job needs are down, drained or reserved",
    "BadConstraints": f"No node can ever fulfil what the job asks for; {_NEVER}",
    "DeadLine": f"The job cannot end before its deadline; {_NEVER}",
    "PartitionDown": "The partition is down; jobs in it do not start",
    "PartitionInactive": "The partition is inactive; jobs in it do not start",
    "PartitionConfig": f"The partition does not take jobs like this one; {_NEVER}",
    "PartitionNodeLimit": f"The job asks for more nodes than its partition allows or has; {_NEVER}",
    "PartitionTimeLimit": f"The job asks for more time than its partition allows; {_NEVER}",
    "MaxMemPerLimit": f"The job asks for more memory than its partition allows; {_NEVER}",
    "InvalidAccount": f"The job's account is not valid; {_NEVER}",
    "InvalidQOS": f"The job's quality of service is not valid; {_NEVER}",
    "AccountNotAllowed": f"The job's account may not use this partition; {_NEVER}",
    "QOSNotAllowed": f"The job's quality of service may not use this partition; {_NEVER}",
    "AccountingPolicy": "A limit of the user's account is reached",
    "QOSUsageThreshold": "The quality of service is not for those who have used as much already",
    "Prolog": "The node is being prepared for the job",
    "Cleaning": "The job is waiting for its earlier run to be cleaned up",
    "FrontEndDown": "The node that starts jobs is down",
    "PowerNotAvail": "The job is waiting for electric power",
    "PowerReserved": "The job is waiting for electric power that is reserved",
    "SchedDefer": "The scheduler has put the job off",
    "JobArrayTaskLimit": "The job array's limit of running parts is reached",
    "BurstBufferResources": "The job is waiting for its burst buffer",
    "BurstBufferStageIn": "Files are being moved to the job's burst buffer",
    "BurstBufferOperation": "The job's burst buffer failed; the job is held",
    "FedJobLock": "The clusters of the federation are choosing where the job runs",
    "NonZeroExitCode": "The job ended with an exit code that is not zero",
    "RaisedSignal": "The job was ended by a signal",
    "TimeLimit": "The job reached its time limit",
    "JobLaunchFailure": "Slurm could not start the job: often its folder or an output file is"
    " missing on the node, or the job's shell was killed",
    "OutOfMemory": "The job used more memory than it was given",
    "SystemFailure": "Slurm, the file system or the network failed",
    "InactiveLimit": "The job did nothing for too long",
}

# `AssocGrpCPURunMinutesLimit`, `QOSMaxGRESPerUser`, `QOSMinMemory`, `MaxMemoryPerAccount`: the names
# of limits are put together from who sets them, how they count and what they count.
_LIMIT = re.compile(
    r"(?P<owner>QOS|Assoc)?(?P<kind>Grp|Max|Min)(?P<what>[A-Za-z]+?)(?P<time>(?:Run)?Minutes)?"
    r"(?P<scope>Per(?:Job|Node|User|Account))?(?:Limit|NotSatisfied)?"
)
_OWNERS = {"QOS": "the job's quality of service", "Assoc": "the user's account", None: "the site"}
_COUNTED = {
    "cpu": "CPUs",
    "mem": "memory",
    "memory": "memory",
    "node": "nodes",
    "gres": "GPUs or other devices",
    "jobs": "running jobs",
    "submitjobs": "submitted jobs",
    "submitjob": "submitted jobs",
    "wall": "time",
    "wallduration": "time",
    "license": "licences",
    "bb": "burst buffer",
    "billing": "billing units",
    "energy": "energy",
    "unknown": "another resource",
}
_NOT_LOOKED_AT = "The scheduler has not looked at the job yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Why a job waits."""

    word: str
    """Slurm's own word; the same for as long as the cause is."""
    line: str
    """The same for people, with what Slurm adds and when it expects the job to start."""
    is_hopeless: bool
    """Whether waiting is in vain, unless somebody changes the job or the site's settings."""


def explain_wait(row: JobRow) -> Wait:
    """Explain why a job that waits does so."""
    word, line = split_reason(row.reason, is_waiting=row.state.phase is Phase.WAITING)
    is_hopeless = _NEVER in line
    if row.starts_at is not None and row.state.phase is Phase.WAITING and not is_hopeless:
        start = row.starts_at.astimezone().isoformat(sep=" ", timespec="minutes")
        line = f"{line}; it is expected to start at {start}"
    return Wait(word=word, line=line, is_hopeless=is_hopeless)


def split_reason(text: str, *, is_waiting: bool = False) -> tuple[str, str]:
    """Split Slurm's reason into its word and one line for people.

    The word is the same for as long as the cause is; the line holds what Slurm added to it.
    """
    words = " ".join(text.strip().strip("()").split())
    word, _, more = words.partition(",")
    word = word.partition(":")[0].strip().split(" ")[0] or "None"
    if words.startswith("job requeued in held state"):  # 22.05 says some reasons with blanks
        word = "job_requeued_in_held_state"
    if words.startswith("launch failed requeued held"):
        word = "launch_failed_requeued_held"
    if is_waiting and word == "None":
        return word, _NOT_LOOKED_AT
    line = _WORDS.get(word)
    if line is None:
        line = _limit_line(word) or words
    detail = more.strip()
    return word, f"{line} ({detail})" if detail and detail not in line else line


def _limit_line(word: str) -> str | None:
    """Put a limit's name into words; None if it is none."""
    match = _LIMIT.fullmatch(word)
    if match is None:
        if word.startswith("Assoc"):
            return "A limit of the user's account is reached"
        return "A limit of the quality of service is reached" if word.startswith("QOS") else None
    owner = _OWNERS[match["owner"]]
    counted = _COUNTED.get(match["what"].lower(), match["what"])
    if match["time"]:
        counted = f"minutes of {counted}"
    if match["kind"] == "Min":
        return f"{owner.capitalize()} demands more {counted} than the job asks for; {_NEVER}"
    if match["scope"] in ("PerJob", "PerNode"):
        each = "a job" if match["scope"] == "PerJob" else "a node"
        return f"The job asks for more {counted} than {owner} allows {each}; {_NEVER}"
    if match["what"].lower() == "wallduration":
        return f"The job asks for more time than {owner} allows; {_NEVER}"
    whose = {"PerUser": " for each user", "PerAccount": " for each account"}
    where = whose.get(match["scope"] or "", "")
    return f"The limit of {counted} that {owner} sets{where} is reached"
