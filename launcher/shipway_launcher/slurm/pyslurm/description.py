"""From the options of sbatch to what pyslurm is told, for those that come out exactly the same.

pyslurm reads directives by itself, but splits them at blanks, `#` and `=`, drops what it does not know,
and fills in what was not asked for. So the launcher reads its own directives and hands on numbers and
texts; a script with any option that is not in here is submitted by sbatch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from shipway_launcher.slurm.version import SlurmVersion

Value = str | int | bool

_TEXTS = {
    "account": "account",
    "comment": "comment",
    "constraint": "constraint",
    "exclude": "exclude",
    "job-name": "name",
    "partition": "partition",
    "qos": "qos",
    "reservation": "reservation",
    "wckey": "wckey",
}
_PATHS = ("chdir", "error", "input", "output")
_MIB = {"": 1, "M": 1, "G": 1024, "T": 1024**2}

_FOR_MPIRUN = {
    "HYDRA_BOOTSTRAP": "slurm",
    "HYDRA_LAUNCHER_EXTRA_ARGS": "--external-launcher",
    "I_MPI_HYDRA_BOOTSTRAP": "slurm",
    "I_MPI_HYDRA_BOOTSTRAP_EXEC_EXTRA_ARGS": "--external-launcher",
    "OMPI_MCA_plm_slurm_args": "--external-launcher",
    "PRTE_MCA_plm_slurm_args": "--external-launcher",
}
"""What sbatch gives each job from 23.11 on, so that an mpirun in it starts its processes by srun."""


class NeedsSbatch(Exception):
    """This job can only be submitted by sbatch; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A job as the helper is told of it."""

    fields: Mapping[str, Value]
    variables: Mapping[str, str]
    """What sbatch would add to the job's environment for these options."""


def describe(options: Mapping[str, str | None], *, version: SlurmVersion | None) -> Description:
    """Describe the job that sbatch would make of *options*.

    Args:
        options: By their long names.
        version: Slurm's release as far as it is known.

    Raises:
        NeedsSbatch: One of them is not known to come out the same.
    """
    fields: dict[str, Value] = {"input": "/dev/null", "min_cpus": 1}
    variables: dict[str, str] = {}
    for name, value in options.items():
        if name in _TEXTS and value:
            fields[_TEXTS[name]] = value
        elif name in _PATHS and value and value.startswith("/"):
            fields[name] = value
        elif name in _READERS:
            _READERS[name](value or "", fields, variables)
        else:
            raise NeedsSbatch(f"--{name}={value}" if value else f"--{name}")
    for needed in ("name", "chdir", "output", "min_nodes"):
        if needed not in fields:
            raise NeedsSbatch(f"no {needed}")
    if "propagate" not in options:
        raise NeedsSbatch("no --propagate: limits of this process go with the job")
    if "cpus_per_task" in fields and version is not None and version >= (23, 11):
        raise NeedsSbatch("--cpus-per-task, which later releases count as TRES per task as well")
    _count_tasks(fields)
    variables["SLURM_JOB_NAME"] = str(fields["name"])
    if version is not None and version >= (23, 11):
        variables = {**_FOR_MPIRUN, **variables}
    return Description(fields=fields, variables=variables)


def _count_tasks(fields: dict[str, Value]) -> None:
    """Derive what sbatch derives from the numbers of nodes, tasks and CPUs."""
    least, most = int(fields["min_nodes"]), int(fields["max_nodes"])
    per_node, tasks = fields.get("ntasks_per_node"), fields.get("ntasks")
    if tasks is None and least == most:
        tasks = least * int(per_node or 1)
        if per_node is not None:
            fields["ntasks"] = tasks
    elif tasks is not None and int(tasks) < most:
        raise NeedsSbatch("fewer tasks than nodes")
    fields["min_cpus"] = int(tasks or 1) * int(fields.get("cpus_per_task", 1))


def _read_nodes(value: str, fields: dict[str, Value], _: dict[str, str]) -> None:
    match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", value)
    if match is None or not 0 < int(match[1]) <= int(match[2] or match[1]):
        raise NeedsSbatch(f"--nodes={value}")
    fields["min_nodes"], fields["max_nodes"] = int(match[1]), int(match[2] or match[1])


def _read_gpus(value: str, fields: dict[str, Value], variables: dict[str, str]) -> None:
    if not re.fullmatch(r"(?:[A-Za-z][A-Za-z0-9_.-]*:)?[1-9]\d{0,6}", value):
        raise NeedsSbatch(f"--gpus={value}")
    fields["tres_per_job"] = f"gpu:{value}"
    variables["SLURM_GPUS"] = value


def _read_gres(value: str, fields: dict[str, Value], _: dict[str, str]) -> None:
    for item in value.split(","):
        if not re.fullmatch(r"[A-Za-z]\w*(?::[A-Za-z][A-Za-z0-9_.-]*)?:[1-9]\d{0,6}", item):
            raise NeedsSbatch(f"--gres={value}")
    fields["tres_per_node"] = value


def _read_memory(value: str, fields: dict[str, Value], _: dict[str, str]) -> None:
    match = re.fullmatch(r"([1-9]\d{0,8})([MGT]?)", value)
    if match is None:
        raise NeedsSbatch(f"--mem={value}")
    fields["memory_mib"] = int(match[1]) * _MIB[match[2]]


def _read_time(value: str, fields: dict[str, Value], _: dict[str, str]) -> None:
    """Read `M`, `M:S`, `H:M:S`, `D-H`, `D-H:M`, `D-H:M:S`; seconds count as a whole minute."""
    match = re.fullmatch(r"(?:(\d{1,4})-)?(\d{1,7})(?::(\d{1,2}))?(?::(\d{1,2}))?", value)
    if match is None:
        raise NeedsSbatch(f"--time={value}")
    days, *rest = match.groups()
    parts = [int(part) for part in rest if part is not None]
    if days is not None:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:
        hours, (minutes, seconds) = 0, (*parts, 0)[:2]
    total = int(days or 0) * 1440 + hours * 60 + minutes + (1 if seconds else 0)
    if not 0 < total < 1 << 24:
        raise NeedsSbatch(f"--time={value}")
    fields["time_min"] = total


def _read_open_mode(value: str, fields: dict[str, Value], variables: dict[str, str]) -> None:
    if value not in ("append", "truncate"):
        raise NeedsSbatch(f"--open-mode={value}")
    fields["open_mode"] = value
    variables["SLURM_OPEN_MODE"] = value[0]


def _read_propagate(value: str, _: dict[str, Value], __: dict[str, str]) -> None:
    if value != "NONE":
        raise NeedsSbatch(f"--propagate={value}")


def _count(field: str, *names: str) -> _Reader:
    def read(value: str, fields: dict[str, Value], variables: dict[str, str]) -> None:
        if not re.fullmatch(r"[1-9]\d{0,5}", value) or int(value) >= 0xFFF0:
            raise NeedsSbatch(f"{field}={value}")
        fields[field] = int(value)
        variables.update(dict.fromkeys(names, value))

    return read


def _flag(field: str, meaning: Value) -> _Reader:
    def read(value: str, fields: dict[str, Value], _: dict[str, str]) -> None:
        if value:
            raise NeedsSbatch(f"{field}={value}")
        fields[field] = meaning

    return read


_Reader = Callable[[str, dict[str, Value], dict[str, str]], None]
_READERS: dict[str, _Reader] = {
    "cpus-per-task": _count("cpus_per_task", "SLURM_CPUS_PER_TASK"),
    "gpus": _read_gpus,
    "gres": _read_gres,
    "hold": _flag("priority", 0),
    "mem": _read_memory,
    "no-requeue": _flag("requeue", False),
    "nodes": _read_nodes,
    "ntasks": _count("ntasks", "SLURM_NTASKS", "SLURM_NPROCS"),
    "ntasks-per-node": _count("ntasks_per_node", "SLURM_NTASKS_PER_NODE"),
    "open-mode": _read_open_mode,
    "propagate": _read_propagate,
    "requeue": _flag("requeue", True),
    "time": _read_time,
}
