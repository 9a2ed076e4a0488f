"""The options of sbatch: which a user may give, and how they are spelled."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Takes(enum.Enum):
    """Whether an option has a value."""

    NOTHING = enum.auto()
    VALUE = enum.auto()
    PERHAPS = enum.auto()
    """Only behind `=`, or in the same word as the short form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One option of sbatch."""

    name: str
    short: str = ""
    takes: Takes = Takes.VALUE
    is_ours: bool = False
    """It decides how the job is submitted, laid out or tracked, so users cannot give it."""


_SHORTS = (
    "account=A array=a extra-node-info=B begin=b chdir=D clusters=M constraint=C core-spec=S"
    " cpus-per-task=c dependency=d distribution=m error=e exclude=x gpus=G help=h hold=H input=i"
    " job-name=J licenses=L no-kill=k nodefile=F nodelist=w nodes=N ntasks=n output=o overcommit=O"
    " oversubscribe=s partition=p qos=q quiet=Q time=t verbose=v version=V wait=W"
)


def _table() -> dict[str, Known]:
    ours = {
        # what the launcher sets, or what would change what the launcher set
        *("chdir", "error", "input", "job-name", "output", "open-mode", "partition"),
        *("gpus", "gpus-per-node", "gpus-per-socket", "gpus-per-task"),
        *("nodes", "ntasks", "ntasks-per-core", "ntasks-per-gpu", "ntasks-per-node"),
        *("ntasks-per-socket", "ntasks-per-tres", "tasks-per-node", "tres-per-task"),
        # more than one job, another cluster, another user, another script, no job at all
        *("array", "autocomplete", "cluster", "clusters", "cluster-constraint", "container"),
        *("container-id", "external", "gid", "help"),
        *("no-requeue", "parsable", "requeue", "test-only", "uid", "usage", "version", "wait"),
        "wrap",
        # what the job finds in its environment
        *("export", "export-file", "get-user-env"),
    }
    shorts: dict[str, str] = {}
    for pair in _SHORTS.split():
        name, _, short = pair.partition("=")
        shorts[name] = short
    flags = {
        *("contiguous", "help", "hold", "ignore-pbs", "overcommit", "oversubscribe", "parsable"),
        *("quiet", "reboot", "requeue", "no-requeue", "spread-job", "test-only", "usage"),
        *("use-min-nodes", "verbose", "version", "wait", "stepmgr", "external"),
        *("consolidate-segments", "spread-segments"),
    }
    perhaps = {
        "exclusive",
        "get-user-env",
        "nice",
        "no-kill",
        "oom-kill-step",
        "propagate",
        "resv-ports",
    }
    plain = {
        *("acctg-freq", "batch", "bb", "bbf", "comment", "cores-per-socket", "cpu-freq"),
        *("cpus-per-gpu", "deadline", "delay-boot", "extra", "gpu-bind", "gpu-freq", "gres"),
        *("gres-flags", "hint", "kill-on-invalid-dep", "mail-type", "mail-user", "mcs-label"),
        *("mem", "mem-bind", "mem-per-cpu", "mem-per-gpu", "mincpus", "network", "power"),
        *("prefer", "priority", "profile", "reservation", "segment", "signal"),
        *("sockets-per-node", "switches", "thread-spec", "threads-per-core", "time-min", "tmp"),
        *("tres-bind", "wait-all-nodes", "wckey"),
    }
    table: dict[str, Known] = {}
    for name in sorted(ours | set(shorts) | flags | perhaps | plain):
        takes = Takes.NOTHING if name in flags else Takes.VALUE
        table[name] = Known(
            name=name,
            short=shorts.get(name, ""),
            takes=Takes.PERHAPS if name in perhaps else takes,
            is_ours=name in ours,
        )
    return table


OPTIONS = _table()
BY_SHORT = {option.short: option for option in OPTIONS.values() if option.short}
