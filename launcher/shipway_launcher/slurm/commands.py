"""The command lines that are given to Slurm."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass

SLURM_PROGRAMS = ("sbatch", "scancel", "scontrol", "sinfo", "squeue")
"""What the launcher runs itself; sacct too where there is accounting, and jobs run srun."""

QUERY_ENVIRONMENT = {"SLURM_TIME_FORMAT": "%s", "LC_ALL": "C.UTF-8"}
"""For questions only (sbatch would hand it to the job): times come as seconds since 1970."""

_FREE_TEXT = {"Name", "Comment", "Reason"}

JOB_FIELDS = (
    *("JobID", "JobArrayID", "State", "Partition", "UserName", "NumCPUs", "NumNodes", "NumTasks"),
    *("exit_code", "RestartCnt", "SubmitTime", "PreemptTime", "StartTime", "EndTime", "TimeLimit"),
    *("tres-alloc", "tres-per-job", "tres-per-node", "tres-per-task"),
    *("NodeList", "Reason", "Comment", "Name"),
)
NODE_FIELDS = (
    *("NodeList", "PartitionName", "NodeAddr", "StateComplete", "StateLong", "Gres", "GresUsed"),
    "CPUsState",
)
ACCOUNTING_FIELDS = ("JobIDRaw", "State", "ExitCode", "Submit", "User")


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """How to tell one column from the next in what squeue and sinfo print.

    Each value is followed by a label of its own, so a column that a release does not know leaves
    no gap. Texts that users choose may hold anything, line ends too; behind them and at the end of
    a record stands a word that nobody can know before.
    """

    fields: tuple[str, ...]
    nonce: str

    @classmethod
    def of(cls, fields: Sequence[str]) -> Columns:
        """Make columns with a new unknowable word."""
        return cls(fields=tuple(fields), nonce=f"~{secrets.token_hex(4)}~")

    def label(self, field: str) -> str:
        """Return what follows the value of *field*."""
        number = self.fields.index(field)
        is_last = number == len(self.fields) - 1
        secret = self.nonce if field in _FREE_TEXT or is_last or number == 0 else ""
        return f"{secret}|{chr(ord('a') + number)}|"

    @property
    def end(self) -> str:
        """Return what ends a record."""
        return self.label(self.fields[-1]) + "\n"

    @property
    def format(self) -> str:
        """Return the argument of `-O`."""
        return ",".join(f"{field}:{self.label(field)}" for field in self.fields)


def list_jobs(columns: Columns) -> list[str]:
    """All jobs that the controller knows, of everybody, ended ones too."""
    return ["squeue", "--noheader", "--all", "--states=all", "-O", columns.format]


def list_jobs_as_json() -> list[str]:
    """The same as JSON; Slurm 22.05 heeds no option beside `--json`, and answers with all jobs."""
    return ["squeue", "--all", "--states=all", "--json"]


def list_nodes(columns: Columns) -> list[str]:
    """All nodes, once for each of their partitions."""
    return ["sinfo", "--noheader", "--all", "--Node", "-O", columns.format]


def show_partitions() -> list[str]:
    """All partitions, in the order of the configuration."""
    return ["scontrol", "--all", "--oneliner", "show", "partition"]


def submit(script: str) -> list[str]:
    """Submit the script at a path."""
    return ["sbatch", "--parsable", script]


def cancel(job_ids: Collection[str], *, signal: str | None = None) -> list[str]:
    """Cancel jobs, or only send their steps a signal."""
    return ["scancel", *([f"--signal={signal}"] if signal else []), *sorted(job_ids)]


def account(job_ids: Collection[str]) -> list[str]:
    """What the accounting database knows of jobs, without their steps."""
    return [
        *("sacct", "--noheader", "--parsable2", "--allocations"),
        *("--format", ",".join(ACCOUNTING_FIELDS), "--jobs", ",".join(sorted(job_ids))),
    ]


def show_config() -> list[str]:
    """What the controller is set to."""
    return ["scontrol", "show", "config"]


def ping() -> list[str]:
    """Ask whether a controller answers; quick when nobody listens at all."""
    return ["scontrol", "ping"]


def show_version() -> list[str]:
    """Ask which release this is."""
    return ["sbatch", "--version"]


def list_mpi() -> list[str]:
    """Ask which MPI plugins there are."""
    return ["srun", "--mpi=list"]
