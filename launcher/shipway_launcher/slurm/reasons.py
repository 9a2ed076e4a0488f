"""Why a job waits or ended, in plain words."""

from __future__ import annotations

_WORDS = {
    "None": "",
    "Priority": "The job is waiting for jobs of higher priority",
    "Resources": "The job is waiting for resources to become available",
    "Dependency": "The job is waiting for another job that it depends on",
    "DependencyNeverSatisfied": "The job depends on another job that did not end as it had to;"
    " it can never start",
    "BeginTime": "The job is waiting for its earliest start time",
    "JobHeldUser": "The job is held by its user; `scontrol release` lets it go",
    "JobHeldAdmin": "The job is held by an administrator",
    "Licenses": "The job is waiting for a licence",
    "Reservation": "The job is waiting for its reservation to begin",
    "ReservationDeleted": "The job's reservation was deleted; it can never start",
    "ReqNodeNotAvail": "Nodes that the job needs are down, drained or reserved",
    "NodeDown": "A node that the job needs is down",
    "Nodes": "Nodes that the job needs are down, drained or reserved",
    "BadConstraints": "No node can ever fulfil what the job asks for; it can never start",
    "PartitionDown": "The partition is down; jobs in it do not start",
    "PartitionInactive": "The partition is inactive; jobs in it do not start",
    "PartitionNodeLimit": "The job asks for more nodes than its partition allows or has; it can"
    " never start like this",
    "PartitionTimeLimit": "The job asks for more time than its partition allows; it can never"
    " start like this",
    "InvalidAccount": "The job's account is not valid; it can never start like this",
    "InvalidQOS": "The job's quality of service is not valid; it can never start like this",
    "AccountNotAllowed": "The job's account may not use this partition",
    "QOSNotAllowed": "The job's quality of service may not use this partition",
    "MaxGRESPerAccount": "The account's limit of GPUs is reached",
    "Prolog": "The node is being prepared for the job",
    "Cleaning": "The job is waiting for its earlier run to be cleaned up",
    "FrontEndDown": "The node that starts jobs is down",
    "SchedDefer": "The scheduler has put the job off",
    "JobArrayTaskLimit": "The job array's limit of running parts is reached",
    "NonZeroExitCode": "The job ended with an exit code that is not zero",
    "RaisedSignal": "The job was ended by a signal",
    "TimeLimit": "The job reached its time limit",
    "JobLaunchFailure": "Slurm could not start the job: often its folder or an output file is"
    " missing on the node, or the job's shell was killed",
    "OutOfMemory": "The job used more memory than it was given",
    "SystemFailure": "Slurm, the file system or the network failed",
    "InactiveLimit": "The job did nothing for too long",
}

_LIMITS = (
    ("Assoc", "A limit of the user's account is reached"),
    ("QOS", "A limit of the quality of service is reached"),
    ("MaxJobs", "A limit on the number of jobs is reached"),
    ("burst_buffer", "The job is waiting for its burst buffer"),
)


_NOT_LOOKED_AT = "The scheduler has not looked at the job yet"


def split_reason(text: str, *, is_waiting: bool = False) -> tuple[str, str]:
    """Split Slurm's reason into its word and one line for people.

    The word is the same for as long as the cause is; the line holds what Slurm added to it.
    """
    words = " ".join(text.strip().strip("()").split())
    word, _, more = words.partition(",")
    word = word.partition(":")[0].strip().split(" ")[0] or "None"
    if is_waiting and word == "None":
        return word, _NOT_LOOKED_AT
    line = _WORDS.get(word)
    if line is None:
        line = next((said for start, said in _LIMITS if word.startswith(start)), words)
    detail = more.strip()
    return word, f"{line} ({detail})" if detail and detail not in line else line
