"""Which part of the job this process is, and what its task finds in its environment; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from shipway_agent.job.errors import JobError, StaleJob

WRAPPER = "/dispatcher-wrapper.sh"
"""The stock first program of a container, which itself sets what `task_environment` would."""

VisibleVariable = Literal["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"]

_INDEX = re.compile(r"[0-9]+")
_CREDENTIALS = frozenset({"SLURM_JWT"})
_NO_DEVICES = frozenset({"", "-1", "NoDevFiles", "void", "none"})


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
    """Indexes or UUIDs, in Slurm's order."""

    @property
    def needs_indexes(self) -> bool:
        """Whether a name is no index, so that the driver must be asked."""
        return any(not _INDEX.fullmatch(name) for name in self.names)


def find_visible_devices(environment: Mapping[str, str]) -> VisibleDevices | None:
    """Read the variable that belongs to the task's kind of slots; None if there is none."""
    kind = environment.get("DET_SLOT_TYPE", "")
    if kind == "rocm" and "ROCR_VISIBLE_DEVICES" in environment:
        variable: VisibleVariable = "ROCR_VISIBLE_DEVICES"
    elif kind == "cuda" and "CUDA_VISIBLE_DEVICES" in environment:
        variable = "CUDA_VISIBLE_DEVICES"
    else:
        return None
    text = environment[variable].strip()
    names = [] if text in _NO_DEVICES else [name.strip() for name in text.split(",")]
    return VisibleDevices(variable=variable, names=tuple(name for name in names if name))


def inherited_environment(
    environment: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, str]:
    """Add to the task's variables what Slurm tells each process; Slurm's word wins."""
    told = {
        name: value
        for name, value in environ.items()
        if (name.startswith(("SLURM_", "SLURMD_")) and name not in _CREDENTIALS)
        or name.endswith("_VISIBLE_DEVICES")
    }
    return {**environment, **told}


def task_environment(
    environment: Mapping[str, str], rank: Rank, indexes: Mapping[str, int]
) -> dict[str, str]:
    """Set for one rank what the stock wrapper script sets in a container that starts with it.

    Args:
        environment: The task's variables and Slurm's.
        rank: Whose environment it is.
        indexes: The driver's index of each device that is named by UUID, as far as it is known.
    """
    result = {
        **environment,
        "DET_AGENT_ID": rank.node,
        "DET_CONTAINER_ID": f"[cont={rank.number}]",
    }
    devices = find_visible_devices(environment)
    if devices is None:
        result.setdefault("DET_SLOT_IDS", "[0]")
        result["DET_UNIQUE_PORT_OFFSET"] = "0"
        return result
    numbers = _device_numbers(devices, indexes)
    result["DET_SLOT_IDS"] = json.dumps(numbers, separators=(",", ":"))
    result["DET_UNIQUE_PORT_OFFSET"] = str(numbers[0] if numbers else 0)
    if devices.variable == "ROCR_VISIBLE_DEVICES":
        result.pop("CUDA_VISIBLE_DEVICES", None)  # HIP would apply both, one on top of the other
    elif all(name in indexes or _INDEX.fullmatch(name) for name in devices.names):
        result["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, numbers))
    return result


def _device_numbers(devices: VisibleDevices, indexes: Mapping[str, int]) -> list[int]:
    """Turn names into indexes; a device the driver does not tell counts by its position."""
    return [
        int(name) if _INDEX.fullmatch(name) else indexes.get(name, position)
        for position, name in enumerate(devices.names)
    ]


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "")
    if not text:
        return default
    if not _INDEX.fullmatch(text):
        raise JobError(f"{name}={text!r} is no number; is this process started by srun?")
    return int(text)
