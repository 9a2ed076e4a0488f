"""The names by which a manifest says what to run and where."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from shipway_launcher.errors import WrongRequest


class Purpose(enum.StrEnum):
    """What a carrier does."""

    JOB = "job"
    RESOURCES = "resources"
    QUEUES = "queues"


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """One way to carry a payload."""

    class_name: str
    purpose: Purpose
    runtime: str | None = None


_SLURM = "com.cray.analytics.capsules.carriers.hpc.slurm."
_PBS = "com.cray.analytics.capsules.carriers.hpc.pbs."

_CARRIERS = (
    Carrier(class_name=f"{_SLURM}SingularityOverSlurm", purpose=Purpose.JOB, runtime="apptainer"),
    Carrier(class_name=f"{_SLURM}PodmanOverSlurm", purpose=Purpose.JOB, runtime="podman"),
    Carrier(class_name=f"{_SLURM}EnrootOverSlurm", purpose=Purpose.JOB, runtime="enroot"),
    Carrier(class_name=f"{_SLURM}SandboxOverSlurm", purpose=Purpose.JOB, runtime="sandbox"),
    Carrier(class_name=f"{_SLURM}SlurmResources", purpose=Purpose.RESOURCES),
    Carrier(class_name=f"{_SLURM}SlurmQueue", purpose=Purpose.QUEUES),
)
_BY_NAME = {carrier.class_name: carrier for carrier in _CARRIERS}


def choose_carrier(names: Sequence[str]) -> Carrier:
    """Return the first of *names* that fits a Slurm cluster.

    Raises:
        WrongRequest: There is none.
    """
    for name in names:
        carrier = _BY_NAME.get(name)
        if carrier is not None:
            return carrier
    if any(name.startswith(_PBS) for name in names):
        raise WrongRequest(f"carrier {names[0]}: this launcher drives Slurm, not PBS")
    known = ", ".join(sorted(name.rpartition(".")[2] for name in _BY_NAME))
    raise WrongRequest(f"carriers: none of {', '.join(names)[:300]} is known; known are {known}")
