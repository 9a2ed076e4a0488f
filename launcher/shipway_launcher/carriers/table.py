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


class Manager(enum.StrEnum):
    """A workload manager."""

    SLURM = "slurm"
    PBS = "pbs"

    @property
    def label(self) -> str:
        """Its name in texts for people, some of which the master looks for."""
        return "PBS" if self is Manager.PBS else "Slurm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """One way to carry a payload."""

    class_name: str
    purpose: Purpose
    manager: Manager
    runtime: str | None = None


_HPC = "com.cray.analytics.capsules.carriers.hpc."
_RUNTIMES = {
    "Singularity": "apptainer",
    "Podman": "podman",
    "Enroot": "enroot",
    "Sandbox": "sandbox",
}


RUNTIMES = tuple(_RUNTIMES.values())
"""The container runtimes that have carriers."""


def _carriers(manager: Manager) -> list[Carrier]:
    name = manager.capitalize()
    prefix = f"{_HPC}{manager}."
    queries = (("Resources", Purpose.RESOURCES), ("Queue", Purpose.QUEUES))
    return [
        *(
            Carrier(
                class_name=f"{prefix}{word}Over{name}",
                purpose=Purpose.JOB,
                manager=manager,
                runtime=runtime,
            )
            for word, runtime in _RUNTIMES.items()
        ),
        *(
            Carrier(class_name=f"{prefix}{name}{word}", purpose=purpose, manager=manager)
            for word, purpose in queries
        ),
    ]


_BY_NAME = {carrier.class_name: carrier for manager in Manager for carrier in _carriers(manager)}


def choose_carrier(names: Sequence[str], manager: Manager = Manager.SLURM) -> Carrier:
    """Return the first of *names* that fits the cluster's workload manager.

    Raises:
        WrongRequest: There is none.
    """
    found = [carrier for name in names if (carrier := _BY_NAME.get(name)) is not None]
    for carrier in found:
        if carrier.manager is manager:
            return carrier
    if found:
        raise WrongRequest(
            f"carrier {found[0].class_name}: this launcher drives {manager.label}, not"
            f" {found[0].manager.label} (workload_manager in its settings)"
        )
    known = ", ".join(carrier.class_name.rpartition(".")[2] for carrier in _carriers(manager))
    raise WrongRequest(f"carriers: none of {', '.join(names)[:300]} is known; known are {known}")


def carrier_name(runtime: str, manager: Manager) -> str:
    """Return the name of the carrier that runs jobs with a container runtime of the agent.

    Raises:
        KeyError: There is none.
    """
    by_runtime = {one.runtime: one.class_name for one in _carriers(manager) if one.runtime}
    return by_runtime[runtime]


def query_name(purpose: Purpose, manager: Manager) -> str:
    """Return the name of the carrier that answers a question."""
    return next(one.class_name for one in _carriers(manager) if one.purpose is purpose)


def manager_of(class_name: str) -> Manager:
    """Return whose carrier this is, by its name."""
    return Manager.PBS if class_name.startswith(f"{_HPC}{Manager.PBS}.") else Manager.SLURM
