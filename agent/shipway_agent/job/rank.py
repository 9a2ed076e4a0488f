"""Which part of the job this process is, and what its task finds in its environment; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Literal

from shipway_agent.job.errors import JobError, StaleJob

WRAPPER = "/dispatcher-wrapper.sh"
"""The stock first program of a container, which itself sets what `task_environment` would."""

VisibleVariable = Literal["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"]

_INDEX = re.compile(r"[0-9]+")
_CREDENTIALS = frozenset({"SLURM_JWT"})
_DEVICE = re.compile(r"[0-9]+|(?:GPU|MIG)-.+", re.IGNORECASE)
_TOLD_PREFIXES = ("SLURM_", "SLURMD_", "CUDA_MPS_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """One process of the job's step; one per node."""

    number: int
    peers: int
    node: str


def read_rank(environ: Mapping[str, str], *, host_name: str) -> Rank:
    """Find out from Slurm's variables which process of the step this is.

    Raises:
        StaleJob: Slurm runs the job not for the first time.
        JobError: A variable holds what Slurm would not put there.
    """
    restarts = _number(environ, "SLURM_RESTART_COUNT", 0)
    if restarts > 0:
        raise StaleJob(
            f"Slurm has requeued this job (SLURM_RESTART_COUNT={restarts}), but its tokens and"
            " its allocation ended with its first run; the master starts a new job by itself."
            " Submit with --no-requeue, and do not requeue jobs of the launcher by hand"
        )
    peers = _number(environ, "SLURM_NPROCS", _number(environ, "SLURM_NTASKS", 1))
    number = _number(environ, "SLURM_PROCID", 0)
    if not 0 <= number < peers:
        raise JobError(f"SLURM_PROCID={number} does not fit SLURM_NPROCS={peers}")
    return Rank(number=number, peers=peers, node=environ.get("SLURMD_NODENAME") or host_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class VisibleDevices:
    """The devices that Slurm gave to this node's part of the job."""

    variable: VisibleVariable
    names: tuple[str, ...]
    """Indexes or UUIDs (whole or their beginnings, of GPUs or MIG instances), in Slurm's order."""

    @property
    def needs_numbers(self) -> bool:
        """Whether a name is no index, so that the driver must be asked."""
        return any(not _INDEX.fullmatch(name) for name in self.names)


def find_visible_devices(environment: Mapping[str, str]) -> VisibleDevices | None:
    """Read the variable that belongs to the task's kind of slots; None if there is none.

    The list ends at the first entry that names no device (`-1`, `NoDevFiles`), as for CUDA.
    """
    kind = environment.get("DET_SLOT_TYPE", "")
    by_kind: Mapping[str, tuple[VisibleVariable, ...]] = {
        "rocm": ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
        "cuda": ("CUDA_VISIBLE_DEVICES",),
    }
    for variable in by_kind.get(kind, ()):
        if variable in environment:
            entries = (name.strip() for name in environment[variable].split(","))
            names = dict.fromkeys(takewhile(_DEVICE.fullmatch, entries))
            return VisibleDevices(variable=variable, names=tuple(names))
    return None


def inherited_environment(
    environment: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, str]:
    """Add to the task's variables what Slurm tells each process; Slurm's word wins."""
    told = {
        name: value
        for name, value in environ.items()
        if (name.startswith(_TOLD_PREFIXES) and name not in _CREDENTIALS)
        or name.endswith("_VISIBLE_DEVICES")
    }
    return {**environment, **told}


def task_environment(
    environment: Mapping[str, str], rank: Rank, numbers: Mapping[str, int]
) -> dict[str, str]:
    """Set for one rank what the stock wrapper script sets in a container that starts with it.

    Args:
        environment: The task's variables and Slurm's.
        rank: Whose environment it is.
        numbers: The number of each device that is named otherwise, as far as it is known.
    """
    result = {
        **with_plain_devices(environment, numbers),
        "DET_AGENT_ID": rank.node,
        "DET_CONTAINER_ID": f"[cont={rank.number}]",
    }
    devices = find_visible_devices(environment)
    if devices is None:
        result.setdefault("DET_SLOT_IDS", "[0]")
        result["DET_UNIQUE_PORT_OFFSET"] = "0"
        return result
    ids = _slot_ids(devices, numbers)
    result["DET_SLOT_IDS"] = json.dumps(ids, separators=(",", ":"))
    result["DET_UNIQUE_PORT_OFFSET"] = str(ids[0] if ids else 0)
    if devices.variable == "ROCR_VISIBLE_DEVICES":
        result.pop("CUDA_VISIBLE_DEVICES", None)  # HIP would apply both, one on top of the other
    return result


def with_plain_devices(
    environment: Mapping[str, str], numbers: Mapping[str, int]
) -> dict[str, str]:
    """Name NVIDIA's devices by their indexes, for programs that take no others.

    MIG instances have none, and stay as they are; so does a list with a device that nobody knows.
    """
    result = dict(environment)
    devices = find_visible_devices(environment)
    if devices is None or devices.variable != "CUDA_VISIBLE_DEVICES":
        return result
    is_whole = not any(name.upper().startswith("MIG-") for name in devices.names)
    if is_whole and all(_INDEX.fullmatch(name) or name in numbers for name in devices.names):
        result["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, _slot_ids(devices, numbers)))
    return result


def _slot_ids(devices: VisibleDevices, numbers: Mapping[str, int]) -> list[int]:
    """Number the devices; one that nobody knows gets the next number that is free."""
    known = [int(name) if _INDEX.fullmatch(name) else numbers.get(name) for name in devices.names]
    free = (number for number in count() if number not in known)
    return [next(free) if number is None else number for number in known]


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "")
    if not text:
        return default
    if not _INDEX.fullmatch(text):
        raise JobError(f"{name}={text!r} is no number; is this process started by srun?")
    return int(text)
